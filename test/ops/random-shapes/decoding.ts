import { Tensor } from '../../../src/gpu/tensor.js';
import { decodeRows, putRow, rowWords } from '../../../src/ops/decode-rows.js';
import { greedySampling, sample } from '../../../src/ops/sample.js';
import { sequenceSeed } from '../../../src/random.js';
import { distribution, draw as drawToken } from '../../reference/sample.js';
import { decodeTable, placesOf } from '../decode-table.js';
import { drawRows, type RandomCase } from './draw.js';

/** What outputs hold before a run, as u32. */
const poison = 0x7fff7fff;

export const decodings: Readonly<Record<string, RandomCase>> = {
  'decode-rows': {
    record(op, _tier, draw) {
      const [rows, capacity] = drawRows(draw, 90);
      const [maxPath, before] = [draw.int(1, 9), draw.int(1, 20)];
      const about = Array.from({ length: rows }, () => {
        const shared = Array.from({ length: draw.int(0, maxPath) }, () => draw.int(0, 1e6));
        return { shared, own: draw.int(0, 1e6), owned: draw.int(shared.length > 0 ? 0 : 1, 50) };
      });
      const drawn = Array.from({ length: before }, () => draw.int(0, 1e5));
      const table = decodeTable(op, about, capacity, maxPath, (i) => (i % 3 ? null : i % before));
      const sampled = op.input(
        'sampled',
        'u32',
        [before, 4],
        drawn.flatMap((id) => [id, poison, poison, 0]),
      );
      const [tokens, positions, place] = ['t', 'p', 'l'].map((label) => op.output(label, 'u32', [capacity]));
      decodeRows(op.ctx, { ...table, sampled, tokens, positions, place });
      const all = (of: (i: number) => number) =>
        Float64Array.from({ length: capacity }, (_, i) => (i < rows ? of(i) : poison));
      const places = about.map(placesOf);
      return {
        batch: { rows },
        checks: [
          { tensor: tokens, expected: all((i) => (i % 3 ? i : drawn[i % before])), limit: 1e-12 },
          { tensor: positions, expected: all((i) => places[i].length - 1), limit: 1e-12 },
          { tensor: place, expected: all((i) => places[i][places[i].length - 1]), limit: 1e-12 },
        ],
      };
    },
  },
  sample: {
    record(op, _tier, draw) {
      const [rows, capacity] = drawRows(draw, 6);
      const vocab = draw.int(1, 900);
      const stride = 8 * Math.ceil(vocab / 8);
      const filters = [{}, {}, { topK: draw.int(1, 20) }, { topP: draw.int(1, 99) / 100 }, { topK: 12, topP: 0.5 }];
      const options = { ...greedySampling, temperature: draw.pick([0, 1, 3]), ...draw.pick(filters) };
      const table = new Uint32Array(capacity * rowWords);
      const logits = new Float32Array(capacity * stride).fill(Number.NaN);
      const expected: number[] = [];
      for (let i = 0; i < rows; i++) {
        const row = { length: draw.int(1, 2000), seed: sequenceSeed(draw.int(0, 99), i) };
        putRow(table, i, { slot: 0, shared: 0, own: 0, token: 0, source: 0, ...row });
        // Two tokens as good as equal may change places.
        let [values, token] = [new Float32Array(), { id: 0, lead: 0 }];
        while (token.lead < 1e-3) {
          values = Float32Array.from(draw.normal(vocab, 2));
          token = drawToken(values, options, row.seed, row.length);
        }
        logits.set(values, i * stride);
        const { logprob, entropy } = distribution(values, options);
        expected.push(0, logprob[token.id], entropy, 0);
      }
      const sampled = op.output('sampled', 'u32', [capacity, 4]);
      sample(op.ctx, options, {
        logits: op.input('logits', 'f32', [capacity, stride], logits),
        vocab,
        rows: op.input('rows', 'u32', [capacity, rowWords], table),
        sampled,
        notes: null,
      });
      // As numbers of 32 bits ids are next to nothing: a wrong one shows by its log-probability.
      const tensor = new Tensor('sampled', 'f32', [capacity, 4], sampled.buffer);
      return { batch: { logitRows: rows }, checks: [{ tensor, expected: Float64Array.from(expected), limit: 1e-5 }] };
    },
  },
};
