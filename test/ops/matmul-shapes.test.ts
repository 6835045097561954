import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { create, globals } from 'webgpu';
import { kernelSource } from '../../src/cli/kernel-source.js';
import { Device, type MatrixUnits } from '../../src/gpu/device.js';
import { KernelCache } from '../../src/gpu/kernels.js';
import { Recorder } from '../../src/gpu/program.js';
import { specialise } from '../../src/gpu/shader.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { matmul } from '../../src/ops/matmul.js';

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

const units: Record<string, MatrixUnits> = {
  'NVIDIA, AMD: 16x16x16, 32 lanes': { m: 16, n: 16, k: 16, subgroup: 32, pin: false },
  'AMD: 16x16x16, pinned to 64 of 32 or 64 lanes': { m: 16, n: 16, k: 16, subgroup: 64, pin: true },
  'Intel: 8x16x16, pinned to 16 of 16 or 32 lanes': { m: 8, n: 16, k: 16, subgroup: 16, pin: true },
};

describe.each(Object.keys(units))('matmul on %s', (name) => {
  it.each(['nt', 'nn'] as const)("compiles in form '%s' for one row and for many", async (form) => {
    const source = kernelSource();
    const kernels = new KernelCache(device, source);
    const recorder = new Recorder(kernels);
    const recorded: Parameters<Recorder['dispatch']>[0][] = [];
    const keep = recorder.dispatch.bind(recorder);
    recorder.dispatch = (dispatch) => {
      recorded.push(dispatch);
      keep(dispatch);
    };
    const make = (shape: number[], dtype: 'f16' | 'f32' = 'f16') => new Tensor('t', dtype, shape);
    for (const m of [1, 200]) {
      const [n, k, rank] = [256, 64, 16];
      const lora = { u: make([m, rank]), v: make(form === 'nt' ? [n, rank] : [rank, n]), rank };
      matmul(
        { recorder, operand: 'f16', cpu: false, matrix: units[name] },
        {
          label: 'm',
          form,
          x: make([m, k]),
          w: make(form === 'nt' ? [n, k] : [k, n]),
          c: make([m, n], 'f32'),
          n,
          k,
          lora,
          residual: make([m, n], 'f32'),
          count: 'batch.rows',
        },
      );
    }
    expect(recorded).toHaveLength(2);
    for (const dispatch of recorded) {
      expect(dispatch.kernel).toBe('matmul-tensor');
      // The module alone: this backend has a quarter of a GPU's workgroup memory and would refuse the pipeline.
      const code = specialise(source('matmul-tensor.wgsl'), { ...dispatch.defines, forward: 1 }, (file) =>
        source(`include/${file}`),
      );
      const { messages } = await device.gpu.createShaderModule({ code }).getCompilationInfo();
      expect(messages.map((m) => m.message)).toEqual([]);
    }
  });
});
