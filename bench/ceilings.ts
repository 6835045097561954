import { type Device, type MatrixUnits, nameMatrix } from '../src/gpu/device.js';
import { median } from './rows.js';

/** What this device reaches in loops that do one thing only. */
export interface Ceilings {
  /** Bytes read and written by a copy of a big buffer, GB/s. */
  readonly copy_gbps: number;
  /** Fused multiply-adds in registers, GFLOP/s. */
  readonly f32_gflops: number;
  readonly f16_gflops: number | null;
  /** Multiplications of matrices in registers, GFLOP/s, by "MxNxK of TYPE". */
  readonly matrix_gflops: Readonly<Record<string, number>>;
}

/** A loop's text, and the work of one run of it. */
interface Loop {
  readonly code: string;
  readonly workgroups: number;
  readonly work: number;
}

/** Measures them: about a second. */
export async function measureCeilings(device: Device): Promise<Ceilings> {
  const { cpu, f16 } = device.features;
  const bytes = Math.min(cpu ? 32 << 20 : 512 << 20, device.maxBinding);
  const [from, to] = ['from', 'to'].map((label) => device.createBuffer(bytes, label));
  const matrix_gflops: Record<string, number> = {};
  try {
    const copy = await time(device, copyLoop(bytes), [from, to]);
    const f32 = await time(device, fmaLoop('f32', cpu), [to]);
    const half = f16 ? await time(device, fmaLoop('f16', cpu), [to]) : null;
    for (const matrix of device.matrixUnits)
      matrix_gflops[nameMatrix(matrix)] = await time(device, matrixLoop(matrix, cpu), [to]);
    return { copy_gbps: copy, f32_gflops: f32, f16_gflops: half, matrix_gflops };
  } finally {
    device.destroyBuffer(from);
    device.destroyBuffer(to);
  }
}

function copyLoop(bytes: number): Loop {
  const units = bytes / 16;
  const workgroups = Math.min(65535, Math.ceil(units / 256));
  return {
    code: `@group(0) @binding(0) var<storage, read_write> a: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> b: array<vec4u>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3u) {
  for (var i = id.x; i < ${units}u; i += ${workgroups * 256}u) { b[i] = a[i]; }
}`,
    workgroups,
    work: 2 * bytes,
  };
}

/** Eight chains of multiply-adds of vectors in each invocation. */
function fmaLoop(type: 'f32' | 'f16', cpu: boolean): Loop {
  const [turns, workgroups] = cpu ? [512, 64] : [2048, 4096];
  const chains = Array.from({ length: 8 }, (_, i) => i);
  return {
    code: `${type === 'f16' ? 'enable f16;' : ''}
@group(0) @binding(0) var<storage, read_write> a: array<vec4<${type}>>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = a[id.x % 64u];
  let y = a[id.x % 64u + 64u];
  ${chains.map((i) => `var c${i} = x + vec4<${type}>(${i});`).join(' ')}
  for (var i = 0u; i < ${turns}u; i++) { ${chains.map((i) => `c${i} = fma(c${i}, x, y);`).join(' ')} }
  a[id.x % 64u] = ${chains.map((i) => `c${i}`).join(' + ')};
}`,
    workgroups,
    work: workgroups * 256 * turns * chains.length * 4 * 2,
  };
}

/** Four by two matrices in each of four subgroups, multiplied over and over. */
function matrixLoop(matrix: MatrixUnits, cpu: boolean): Loop {
  const { m, n, k, operand, subgroup, pin } = matrix;
  const [turns, workgroups] = cpu ? [64, 16] : [2048, 2048];
  const pairs = [0, 1, 2, 3].flatMap((i) => [0, 1].map((j) => [i, j]));
  const perElement = operand === 'f16' ? 1 : 2;
  const threads = 4 * subgroup;
  return {
    code: `${operand === 'f16' ? 'enable f16;' : ''} enable subgroups; enable chromium_experimental_subgroup_matrix;
${pin ? 'enable subgroup_size_control;' : ''}
@group(0) @binding(0) var<storage, read_write> a: array<vec4u>;
var<workgroup> staged: array<vec4u, ${(64 * perElement * 64) / 8}>;
var<workgroup> results: array<f32, ${4 * m * n}>;
@compute @workgroup_size(${threads}) ${pin ? `@subgroup_size(${subgroup})` : ''}
fn main(@builtin(local_invocation_index) li: u32, @builtin(subgroup_id) sg: u32) {
  for (var i = li; i < ${(64 * perElement * 64) / 8}u; i += ${threads}u) { staged[i] = a[i % 64u]; }
  workgroupBarrier();
  ${[0, 1, 2, 3].map((i) => `let l${i} = subgroupMatrixLoad<subgroup_matrix_left<${operand}, ${k}, ${m}>, row_major>(&staged, ${i}u, ${8 * perElement}u);`).join('\n  ')}
  ${[0, 1].map((j) => `let r${j} = subgroupMatrixLoad<subgroup_matrix_right<${operand}, ${n}, ${k}>, row_major>(&staged, ${j}u, ${8 * perElement}u);`).join('\n  ')}
  ${pairs.map(([i, j]) => `var c${i}${j}: subgroup_matrix_result<f32, ${n}, ${m}>;`).join(' ')}
  for (var t = 0u; t < ${turns}u; t++) {
    ${pairs.map(([i, j]) => `c${i}${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, c${i}${j});`).join('\n    ')}
  }
  ${pairs.map(([i, j]) => `subgroupMatrixStore<row_major>(&results, sg * ${m * n}u, c${i}${j}, ${n}u); workgroupBarrier(); if (li == 0u) { a[${2 * i + j}u] = vec4u(bitcast<u32>(results[0])); } workgroupBarrier();`).join('\n  ')}
}`,
    workgroups,
    work: workgroups * 4 * turns * pairs.length * 2 * m * n * k,
  };
}

/** Units of work a nanosecond: the median of several runs, submit to done. */
async function time(device: Device, loop: Loop, buffers: readonly GPUBuffer[]): Promise<number> {
  const { gpu } = device;
  const module = gpu.createShaderModule({ code: loop.code });
  const pipeline = await device.track(
    gpu.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } }),
  );
  const group = gpu.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const run = async (times: number) => {
    const started = performance.now();
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < times; i++) pass.dispatchWorkgroups(loop.workgroups);
    pass.end();
    gpu.queue.submit([encoder.finish()]);
    await device.finish();
    return (performance.now() - started) / times;
  };
  await run(1);
  const times = Math.max(1, Math.min(64, Math.ceil(20 / (await run(1)))));
  const each: number[] = [];
  for (let i = 0; i < 5; i++) each.push(await run(times));
  return loop.work / median(each) / 1e6;
}
