import { afterAll, beforeAll, expect, it } from 'vitest';
import { KernelCache } from '../src/gpu/kernels.js';
import { OpRun, openTestGpu, type TestGpu } from './gpu.js';
import { makeHostile } from './hostile-workgroups.js';
import { skip } from './skip.js';

/** Two workgroups, in each of which the upper 32 invocations read what the lower ones wrote, or should have. */
const kernel = (write: string, barrier: string) => `
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<workgroup> written: array<f32, 64>;
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  ${write}
  ${barrier}
  if (li >= 32u) { y[32u * wg.x + li - 32u] = written[li - 32u]; }
}`;

let users: TestGpu;
let hostile: TestGpu;
beforeAll(async () => {
  users = await openTestGpu();
  hostile = await openTestGpu();
  makeHostile(hostile);
});
afterAll(async () => {
  await users.close();
  await hostile.close();
});

async function run(gpu: TestGpu, code: string): Promise<number[]> {
  const op = new OpRun({ ...gpu, kernels: new KernelCache(gpu.device, () => code) }, 'f32');
  const y = op.output('y', 'f32', [64]);
  const tensors = { y };
  op.ctx.recorder.dispatch({ kernel: 'reading', pass: 'forward', defines: {}, label: '', tensors, workgroups: [2] });
  await op.run({});
  const values = [...(await op.read(y))];
  op.destroy();
  return values;
}

const write = 'written[li] = f32(64u * wg.x + li);';
const barrier = 'workgroupBarrier();';
const right = Array.from({ length: 64 }, (_, i) => i + (i < 32 ? 0 : 32));

it('leaves a kernel right that has its barrier', async () => {
  expect(await run(users, kernel(write, barrier))).toEqual(right);
  expect(await run(hostile, kernel(write, barrier))).toEqual(right);
});

it('shows a missing barrier that the order of the software driver hides', async () => {
  if (!users.device.features.cpu) skip('the order of this device is not known');
  expect(await run(users, kernel(write, ''))).toEqual(right);
  expect(await run(hostile, kernel(write, ''))).not.toEqual(right);
});

it('shows workgroup memory that is read before it is written', async () => {
  expect(await run(hostile, kernel('', barrier))).toEqual(new Array(64).fill(Number.NaN));
});
