import { biasedScales, nestedScales, zeroedScales } from '../../../src/ops/group-scales.js';
import { repack } from '../../../src/ops/repack.js';
import { rounded } from '../../gpu.js';
import { packAwq, packBitsandbytes, packGptq, packNatural } from '../../reference/packing.js';
import type { Draw, RandomCase } from './draw.js';

const pack = { gptq: packGptq, awq: packAwq };
const codesOf = (draw: Draw, count: number) => Float64Array.from({ length: count }, () => draw.int(0, 15));

/** What loading makes of the tensors of a quantised checkpoint, in pieces and parts. */
export const packing: Readonly<Record<string, RandomCase>> = {
  repack: {
    record(op, _tier, draw) {
      const order = draw.pick(['bitsandbytes', 'gptq', 'awq'] as const);
      const [n, k] = [8 * draw.int(1, 12), 8 * draw.int(1, 12)];
      const width = k / 8;
      const codes = codesOf(draw, n * k);
      // Rows from one on, in pieces of columns; of bitsandbytes words from one on.
      const row = order === 'bitsandbytes' ? 0 : 8 * draw.int(0, n / 8 - 1);
      const rows = n - row;
      const y = op.output('codes', 'u32', [rows * width + 3]);
      const cut = draw.int(0, order === 'bitsandbytes' ? n * width : width);
      if (order === 'bitsandbytes') {
        const stored = new Uint32Array(packBitsandbytes(codes).buffer);
        for (const [from, to] of [
          [cut, n * width],
          [0, cut],
        ].filter(([from, to]) => to > from)) {
          const raw = op.input('raw', 'u32', [to - from], stored.subarray(from, to));
          repack(op.ctx, { raw, codes: y, order, words: to - from, first: from });
        }
      } else {
        const stored = pack[order](codes, n, k);
        for (const [from, to] of [
          [cut, width],
          [0, cut],
        ].filter(([from, to]) => to > from)) {
          const columns = to - from;
          const raw = op.input('raw', 'u32', [columns * n], stored.subarray(from * n, to * n));
          repack(op.ctx, { raw, codes: y, order, words: columns * rows, first: from, columns, row, n, width });
        }
      }
      const expected = Float64Array.from([...packNatural(codes.subarray(row * k)), ...new Array(3).fill(0x7fff7fff)]);
      return { batch: {}, checks: [{ tensor: y, expected, limit: 1e-300 }] };
    },
  },
  'group-scales, nested': {
    kernel: 'group-scales',
    record(op, _tier, draw) {
      const [count, block, place] = [draw.int(1, 300), draw.int(1, 70), draw.int(0, 90)];
      const bytes = Uint8Array.from({ length: Math.ceil(count / 4) * 4 }, () => draw.int(0, 255));
      const map = rounded('f32', draw.normal(256));
      const nested = rounded('f32', draw.normal(Math.ceil((place + count) / block)));
      const first = draw.int(0, 5);
      const y = op.output('y', 'f32', [first + count + 2]);
      const absmax = op.input('absmax', 'u32', [bytes.length / 4], new Uint32Array(bytes.buffer));
      const tensors = {
        absmax,
        map: op.input('map', 'f32', [256], map),
        nestedAbsmax: op.input('nested', 'f32', [nested.length], nested),
        y,
      };
      nestedScales(op.ctx, tensors, { count, first, place, block, offset: 0.25 });
      nestedScales(op.ctx, tensors, { count: first, first: 0, place, block, offset: 0.25 });
      const scale = (i: number) => map[bytes[i]] * nested[Math.floor((place + i) / block)] + 0.25;
      const expected = Float64Array.from({ length: first + count }, (_, i) => scale(i < first ? i : i - first));
      return { batch: {}, checks: [{ tensor: y, expected, limit: 1e-6 }] };
    },
  },
  'group-scales, biased': {
    kernel: 'group-scales',
    record(op, tier, draw) {
      const count = draw.int(1, 300);
      const [scales, biases] = [1, 2].map(() => rounded(tier, draw.normal(count + (count % 2))));
      const [first, y] = [draw.int(0, 1), op.output('y', 'f32', [2 * count + 4])];
      const [stored, bias] = [scales, biases].map((values) => op.input('stored', tier, [values.length], values));
      if (first) biasedScales(op.ctx, { scales: stored, biases: bias, y }, tier, { count: 1, first: 0 });
      biasedScales(op.ctx, { scales: stored, biases: bias, y }, tier, { count, first });
      const pairs = (first ? [0] : []).concat(Array.from({ length: count }, (_, i) => i));
      const expected = Float64Array.from(pairs.flatMap((i) => [scales[i], biases[i]]));
      return { batch: {}, checks: [{ tensor: y, expected, limit: 1e-300 }] };
    },
  },
  'group-scales': {
    record(op, tier, draw) {
      const order = draw.pick(['gptq', 'awq'] as const);
      const [n, width] = [8 * draw.int(1, 12), draw.int(1, 9)];
      const zeros = codesOf(draw, n * width);
      const scales = rounded(tier, draw.normal(n * width));
      const add = draw.pick([0, 0x11111111]);
      // The zeros of a group are packed as the codes of a column are; gptq stores 8 of its rows in a word, in order.
      const stored = order === 'awq' ? packAwq(transpose(zeros, n), n, width) : packNatural(zeros);
      if (add) for (let i = 0; i < stored.length; i++) stored[i] -= add;
      const row = 8 * draw.int(0, n / 8 - 1);
      const rows = n - row;
      const cut = draw.int(0, width);
      const y = op.output('y', 'f32', [2 * rows * width + 4]);
      for (const [from, to] of [
        [cut, width],
        [0, cut],
      ].filter(([from, to]) => to > from)) {
        const columns = to - from;
        const tensors = {
          scales: op.input('scales', tier, [columns * n], scales.subarray(from * n, to * n)),
          zeros: op.input('zeros', 'u32', [(columns * n) / 8], stored.subarray((from * n) / 8, (to * n) / 8)),
          y,
        };
        const piece = { count: columns * rows, first: from, columns, row, n, width, add };
        zeroedScales(op.ctx, tensors, { type: tier, order }, piece);
      }
      const expected = new Float64Array(2 * rows * width);
      for (let i = 0; i < rows * width; i++) {
        const at = (i % width) * n + row + Math.floor(i / width);
        expected.set([scales[at], -scales[at] * zeros[at]], 2 * i);
      }
      return { batch: {}, checks: [{ tensor: y, expected, limit: 1e-7 }] };
    },
  },
};

/** [width, n] to [n, width]. */
function transpose(values: Float64Array, n: number): Float64Array {
  const width = values.length / n;
  return values.map((_, i) => values[(i % width) * n + Math.floor(i / width)]);
}
