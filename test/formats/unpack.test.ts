import { join } from 'node:path';
import { expect, test } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { unpackMatrix } from '../../src/formats/unpack.js';
import { readSafetensors } from '../golden.js';
import { relativeError } from '../reference/random.js';
import { GOLDEN } from './helpers.js';

test.each(['nf4-double', 'nf4-plain', 'gptq-v1-actorder', 'gptq-v2-asym', 'awq', 'mlx'])(
  'every matrix of golden %s is unpacked to its true numbers',
  async (name) => {
    const checkpoint = await openCheckpoint(join(GOLDEN, name, 'model'), modelLayout);
    const truth = readSafetensors(join(GOLDEN, name, 'truth/model.safetensors'));
    expect(checkpoint.packed.size).toBeGreaterThan(0);
    for (const [weight, stored] of checkpoint.packed) {
      const matrix = await unpackMatrix(stored);
      const expected = truth.get(weight)!;
      expect(expected).toHaveLength(stored.n * stored.k);
      expect(relativeError(matrix.rows(0, stored.n), expected)).toBeLessThan(1e-6);
      const some = expected.slice(3 * stored.k, 8 * stored.k);
      expect(relativeError(matrix.rows(3, 5), some)).toBeLessThan(1e-6);
    }
    await checkpoint.close();
  },
);
