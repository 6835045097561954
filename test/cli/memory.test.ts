import { describe, expect, it } from 'vitest';
import { formatBytes, microBatchSizes, parseBytes } from '../../src/cli/memory.js';
import { UsageError } from '../../src/errors.js';

describe('microBatchSizes', () => {
  it('falls from the largest to the longest row', () => {
    expect(microBatchSizes({ longest: 200, fill: 1e6 })).toEqual([
      8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 200,
    ]);
    expect(microBatchSizes({ longest: 256, fill: 1e6 }, 1024)).toEqual([1024, 768, 512, 384, 256]);
  });

  it('goes no higher than the data can fill', () => {
    expect(microBatchSizes({ longest: 40, fill: 150 })).toEqual([150, 128, 96, 64, 40]);
    expect(microBatchSizes({ longest: 7, fill: 7 })).toEqual([7]);
  });

  it('is never less than the longest row', () => {
    expect(microBatchSizes({ longest: 1500, fill: 1e6 }, 1024)).toEqual([1500]);
    expect(microBatchSizes({ longest: 10_000, fill: 1e6 })).toEqual([10_000]);
    for (let longest = 1; longest < 9000; longest += 97) {
      for (const fill of [longest, 2 * longest, 1e5]) {
        const sizes = microBatchSizes({ longest, fill }, 1024);
        expect(sizes.at(-1)).toBe(longest);
        expect(sizes).toEqual([...new Set(sizes)].sort((a, b) => b - a));
        expect(sizes[0]).toBeLessThanOrEqual(fill);
      }
    }
  });
});

describe('bytes', () => {
  it('are read in the units people write', () => {
    expect(['8GiB', '7.5 GB', '512mib', '100', '1kb'].map((text) => parseBytes('--memory-limit', text))).toEqual([
      8 * 2 ** 30,
      7.5e9,
      2 ** 29,
      100,
      1000,
    ]);
    for (const text of ['', 'x', '-1GiB', '0', '1TB', '1.2.3GB', '5 GiB of it'])
      expect(() => parseBytes('--memory-limit', text), text).toThrow(UsageError);
  });

  it('are written short', () => {
    expect([512, 3 * 2 ** 20, 1.5 * 2 ** 30].map(formatBytes)).toEqual(['0.5 KiB', '3.0 MiB', '1.50 GiB']);
  });
});
