import { float16ToFloat32 } from '../src/formats/half.js';
import { BatchUniform } from '../src/gpu/batch.js';
import { BufferPool, type Program, Recorder } from '../src/gpu/program.js';
import type { Tensor } from '../src/gpu/tensor.js';
import type { BenchDevice } from './measure.js';
import { median } from './rows.js';

/** Which side of a comparison. */
export type Side = 0 | 1;

const rounds = 6;

/**
 * Medians of the device's times of two sides, ns, recorded in turns over `rows` live rows; which comes first alternates.
 * Null where a side does not compile, or where `agree` finds, after the first run, that their results differ.
 */
export async function timeInTurns(
  { device, kernels }: BenchDevice,
  rows: number,
  record: (recorder: Recorder, side: Side, round: number) => void,
  agree: () => Promise<boolean>,
): Promise<readonly [number, number] | null> {
  const recorder = new Recorder(kernels);
  // Which side's work ends with which dispatch.
  const sides: { side: Side; end: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const side of round % 2 ? ([1, 0] as const) : ([0, 1] as const)) {
      record(recorder, side, round);
      sides.push({ side, end: recorder.dispatchCount });
    }
  }
  const batch = new BatchUniform(device);
  const pool = new BufferPool(device);
  let program: Program | null = null;
  try {
    program = await recorder.realise(device, pool, batch.buffer);
    batch.write({ rows });
    program.run();
    await device.finish();
    if (!(await agree())) return null;
    const times: [number[], number[]] = [[], []];
    const started = performance.now();
    do {
      const each = await program.time();
      let first = 0;
      for (const { side, end } of sides) {
        times[side].push(each.slice(first, end).reduce((a, b) => a + b, 0));
        first = end;
      }
      // What is far behind after one turn of rounds needs no more of them.
    } while (times[0].length < 24 && performance.now() - started < 500 && median(times[1]) < 2 * median(times[0]));
    return [median(times[0]), median(times[1])];
  } catch (error) {
    if (/does not compile/.test((error as Error).message)) return null;
    throw error;
  } finally {
    program?.destroy();
    device.destroyBuffer(batch.buffer);
    pool.destroy();
  }
}

/** Whether two tensors [rows, width] agree in their first and last rows, to a relative L2 difference of `limit`. */
export async function rowsAgree(
  { device }: BenchDevice,
  tensors: readonly [Tensor, Tensor],
  limit: number,
): Promise<boolean> {
  const [{ shape, dtype, bytes: all }] = tensors;
  const bytes = (all / shape[0]) * Math.min(shape[0], 16);
  for (const offset of [0, all - bytes]) {
    const [a, b] = await Promise.all(
      tensors.map(async ({ buffer }) => {
        const read = await device.read(buffer!, offset, bytes);
        return dtype === 'f16' ? float16ToFloat32(new Uint16Array(read)) : new Float32Array(read);
      }),
    );
    let difference = 0;
    let norm = 0;
    a.forEach((value, i) => {
      difference += (value - b[i]) ** 2;
      norm += value ** 2;
    });
    if (!(difference <= limit ** 2 * norm)) return false;
  }
  return true;
}
