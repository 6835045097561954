import { InputError } from '../src/errors.js';
import type { Device } from '../src/gpu/device.js';

/** A matmul of the peer: runs a [m, k] · b [k, n] so many times and settles when the device has done so. */
export type PeerMatmul = (
  m: number,
  n: number,
  k: number,
) => Promise<{ run(times: number): Promise<void>; dispose(): void }>;

interface TfTensor {
  dispose(): void;
  data(): Promise<Float32Array>;
}
interface Tf {
  registerBackend(name: string, make: () => unknown, priority: number): boolean;
  getKernelsForBackend(name: string): object[];
  registerKernel(kernel: object): void;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  randomUniform(shape: number[], low: number, high: number): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
}

/** tfjs-backend-webgpu on our own device: f32, no subgroup matrices. Throws InputError where tfjs is not installed. */
export async function tfjsMatmul(device: Device, gpu: GPU): Promise<PeerMatmul> {
  // tfjs looks for a browser's navigator while it loads.
  Object.defineProperty(globalThis, 'navigator', {
    value: { gpu, userAgent: 'node' },
    configurable: true,
    writable: true,
  });
  const names = ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu'];
  const [tf, backend] = (await Promise.all(names.map((name) => import(name))).catch(() => {
    throw new InputError(
      '--peer tfjs needs @tensorflow/tfjs and @tensorflow/tfjs-backend-webgpu: install them, or run in a checkout.',
    );
  })) as [Tf, { WebGPUBackend: new (device: GPUDevice, info: GPUAdapterInfo) => unknown }];
  tf.registerBackend('ours', () => new backend.WebGPUBackend(device.gpu, device.info), 10);
  for (const kernel of tf.getKernelsForBackend('webgpu')) tf.registerKernel({ ...kernel, backendName: 'ours' });
  await tf.setBackend('ours');
  await tf.ready();
  return async (m, n, k) => {
    const a = tf.randomUniform([m, k], -1, 1);
    const b = tf.randomUniform([k, n], -1, 1);
    await Promise.all([a.data(), b.data()]);
    return {
      async run(times) {
        for (let i = 0; i < times; i++) {
          const c = tf.matMul(a, b);
          if (i === times - 1) await c.data();
          c.dispose();
        }
      },
      dispose() {
        a.dispose();
        b.dispose();
      },
    };
  };
}
