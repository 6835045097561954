import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { InputError } from '../src/errors.js';

/** What to time: [m, n, k] of products, [rows, heads, kvHeads, headDim] of causal attention. */
export interface TorchShapes {
  readonly matmul: readonly (readonly number[])[];
  readonly attention: readonly (readonly number[])[];
}

export interface TorchTimes {
  /** Version, type and device. */
  readonly name: string;
  /** ms of each product. */
  readonly matmul: readonly number[];
  /** ms of each attention, forward, and forward and backward. */
  readonly attention: readonly (readonly [number, number])[];
}

/**
 * Torch's times in bf16, by bench/peer-torch.py in a Python of its own, after ours: the GPU is never shared. `root` is
 * the package's directory. Throws InputError where there is no Python with torch and a CUDA device.
 */
export async function torchTimes(root: string, shapes: TorchShapes, python = 'python3'): Promise<TorchTimes> {
  const child = spawn(python, [join(root, 'bench', 'peer-torch.py')], { stdio: ['pipe', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  const error: Buffer[] = [];
  child.stdout.on('data', (data) => out.push(data));
  child.stderr.on('data', (data) => error.push(data));
  child.stdin.on('error', () => {}); // it ended before it read; its exit code tells
  child.stdin.end(JSON.stringify(shapes));
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  if (code !== 0) {
    const why = Buffer.concat(error).toString().trim().split('\n').at(-1) || `no ${python}`;
    throw new InputError(`--peer torch needs python3 with torch and a CUDA device: ${why}.`);
  }
  return JSON.parse(Buffer.concat(out).toString());
}
