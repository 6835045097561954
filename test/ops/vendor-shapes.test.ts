import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { create, globals } from 'webgpu';
import { kernelSource } from '../../src/cli/kernel-source.js';
import { Device } from '../../src/gpu/device.js';
import { KernelCache } from '../../src/gpu/kernels.js';
import { Recorder } from '../../src/gpu/program.js';
import { type Defines, specialise } from '../../src/gpu/shader.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { attention, attentionBackward, attentionBlock } from '../../src/ops/attention.js';
import { layOutPacked } from '../../src/ops/dequantize.js';
import { matmul } from '../../src/ops/matmul.js';
import { defaultTensorTile, type MatmulProblem, type TensorTile } from '../../src/ops/matmul-tile.js';
import { vendorUnits } from './vendor-units.js';

// Dawn's null backend type-checks any shader without a device that could run it: the shapes of matrix units that the
// software driver lacks keep compiling.
let gpu: GPU | null;
let device: Device;
beforeAll(async () => {
  Object.assign(globalThis, globals);
  gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
  const adapter = await gpu.requestAdapter();
  device = await Device.open(adapter!, { cpu: false });
});
afterAll(async () => {
  await device.close();
  gpu = null;
});

const stages: Record<string, Partial<TensorTile>> = {
  'as by default': {},
  'through two buffers': { STAGES: 2 },
  'from the tensors': { STAGES: 0, GM: 1, GN: 1, TURN: 0 },
  'with w turned': { TURN: 1 },
};

const source = kernelSource();

/** A recorder that keeps what is recorded. */
function recording() {
  const recorder = new Recorder(new KernelCache(device, source));
  const recorded: Parameters<Recorder['dispatch']>[0][] = [];
  const keep = recorder.dispatch.bind(recorder);
  recorder.dispatch = (dispatch) => {
    recorded.push(dispatch);
    keep(dispatch);
  };
  return { recorder, recorded };
}

/** The module alone: this backend has a quarter of a GPU's workgroup memory and would refuse the pipeline. */
async function compiles(kernel: string, defines: Defines) {
  const code = specialise(source(`${kernel}.wgsl`), defines, (file) => source(`include/${file}`));
  const { messages } = await device.gpu.createShaderModule({ code }).getCompilationInfo();
  expect(messages.map((m) => m.message)).toEqual([]);
}

describe.each(Object.keys(vendorUnits))('matmul on %s', (name) => {
  const matrix = vendorUnits[name];
  const cases = Object.keys(stages).flatMap((how) =>
    (['nt', 'nn', 'tn', 'tt'] as const).flatMap((form) =>
      (['f16', 'f32'] as const).map((dtype) => ({ how, form, dtype })),
    ),
  );
  // Not offered: f32 tensors as f16 operands; straight from the tensors, a transposed x or a conversion; turned, what lies
  // turned or is converted.
  const offered = cases.filter(
    ({ how, form, dtype }) =>
      (matrix.operand === 'f32' || dtype === 'f16') &&
      (how !== 'from the tensors' || (form[0] === 'n' && dtype === matrix.operand)) &&
      (how !== 'with w turned' || (form === 'nn' && matrix.operand === 'f16')),
  );

  it.each(offered)("compiles '$form' of $dtype $how, for one row and for many", async ({ how, form, dtype }) => {
    const { recorder, recorded } = recording();
    const make = (shape: number[], type: 'f16' | 'f32' = dtype) => new Tensor('t', type, shape);
    const [n, k, rank] = [256, 64, 16];
    const xShape = (m: number) => (form[0] === 'n' ? [m, k] : [k, m]);
    const lora = (m: number) => ({ u: make([m, rank]), v: make(form === 'nt' ? [n, rank] : [rank, n]), rank });
    // A transposed x lies in units of 8 along m, and matrices loaded from it need a whole tile of rows.
    const rows = form[0] === 't' ? [8, 200] : how === 'from the tensors' ? [200] : [1, 200];
    for (const m of rows) {
      const tuned = (problem: MatmulProblem) => ({ ...defaultTensorTile(matrix, false, problem), ...stages[how] });
      matmul(
        { recorder, operand: dtype, cpu: false, matrix, tuned },
        {
          label: 'm',
          form,
          x: make(xShape(m)),
          w: make(form[1] === 't' ? [n, k] : [k, n]),
          c: make([m, n], 'f32'),
          n,
          k,
          lora: form[0] === 'n' ? lora(m) : undefined,
          residual: make([m, n], 'f32'),
          count: 'batch.rows',
        },
      );
    }
    expect(recorded).toHaveLength(rows.length);
    for (const { kernel, defines } of recorded) {
      expect(kernel).toBe('matmul-tensor');
      expect(defines).toMatchObject(stages[how]);
      await compiles('matmul-tensor', { ...defines, forward: 1 });
    }
  });
});

describe.each(Object.keys(vendorUnits))('packed matrices on %s', (name) => {
  it.each(['nf4', 'affine4', 'affine8'] as const)(
    'compiles products that unpack %s as they stage it',
    async (format) => {
      const { recorder, recorded } = recording();
      const matrix = vendorUnits[name];
      const make = (label: string, dtype: 'u32' | 'f32' | 'f16', shape: readonly number[]) =>
        new Tensor(label, dtype, shape);
      const [m, out, into] = [16, 256, 128];
      const w = layOutPacked({ format, n: out, k: into, group: 64, ordered: true }, 'w', make);
      for (const form of ['nt', 'nn'] as const) {
        const [n, k] = form === 'nt' ? [out, into] : [into, out];
        const c = make('c', 'f16', [m, n]);
        const x = make('x', 'f16', [m, k]);
        matmul(
          { recorder, operand: 'f16', cpu: false, matrix },
          { label: 'm', form, x, w, c, n, k, count: 'batch.rows' },
        );
      }
      expect(recorded.map(({ kernel }) => kernel)).toEqual(['matmul-tensor', 'matmul-tensor']);
      for (const { kernel, defines } of recorded) {
        expect(defines.FORMAT).toBe(format);
        await compiles(kernel, { ...defines, forward: 1 });
      }
    },
  );
});

describe.each(Object.keys(vendorUnits))('attention on %s', (name) => {
  it.each([64, 96, 128])('compiles forward and backward at head_dim %i', async (headDim) => {
    const { recorder, recorded } = recording();
    const ctx = { recorder, operand: 'f16', cpu: false, matrix: vendorUnits[name] } as const;
    const rows = 200;
    const make = (width: number) => new Tensor('t', 'f16', [rows, width]);
    const list = new Tensor('list', 'u32', [rows]);
    const tree = {
      block: attentionBlock(ctx, headDim),
      positions: list,
      subtreeEnd: list,
      keys: list,
      queries: list,
    };
    const shape = { heads: 8, kvHeads: 2, headDim, window: null };
    const [q, o, dout, dq] = [1, 2, 3, 4].map(() => make(8 * headDim));
    const [k, v, dk, dv] = [1, 2, 3, 4].map(() => make(2 * headDim));
    const lse = new Tensor('lse', 'f32', [rows, 8]);
    attention(ctx, shape, tree, { q, k, v, o, lse });
    attentionBackward(ctx, shape, tree, { q, k, v, o, lse, dout, dq, dk, dv });
    expect(recorded.map(({ kernel, pass }) => `${kernel}/${pass}`)).toEqual([
      'attention-tensor/forward',
      'attention/prepare',
      'attention-tensor/keys',
      'attention-tensor/queries',
    ]);
    for (const { kernel, pass, defines } of recorded) {
      await compiles(kernel, { forward: 0, prepare: 0, keys: 0, queries: 0, ...defines, [pass]: 1 });
    }
  });
});
