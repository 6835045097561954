import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { dynamicLevels, nf4Format, quantizeAbsmax } from '../../src/formats/nf4-writer.js';
import { expectCodes, quantizeBlockwise } from '../reference/quantize.js';
import { randomNormal } from '../reference/random.js';

test('the dynamic type has 256 levels, ± alike but for 0 and 1, from 5.5e-7 on', () => {
  const levels = dynamicLevels();
  expect(levels).toHaveLength(256);
  expect(new Set(levels).size).toBe(256);
  expect([...levels]).toEqual([...levels].sort((a, b) => a - b));
  expect([...levels.subarray(0, 127)]).toEqual([...levels.subarray(128, 255)].map((level) => -level).reverse());
  // Of the list that bitsandbytes stores, which it sums in F32.
  expect([levels[127], levels[128], levels[254], levels[255]].map(Math.fround)).toEqual(
    [0, 5.5e-7, 0.99296875, 1].map(Math.fround),
  );
  expect(levels[189]).toBeCloseTo(0.09578124433755875, 7);
  expect(levels[190]).toBeCloseTo(0.09859374910593033, 7);
});

test('absmaxes get the nearest level of their block of 256', () => {
  const absmax = Float32Array.from(randomNormal(700, 4, 0.01), (x) => Math.abs(x) + 0.05);
  const levels = dynamicLevels();
  const actual = quantizeAbsmax(absmax, levels);
  expect(actual.offset).toBeCloseTo(absmax.reduce((sum, x) => sum + x, 0) / 700, 8);
  const expected = quantizeBlockwise(absmax, actual.offset, levels);
  expect(expected.margins.filter((margin) => margin < 1e-5).length).toBeLessThan(7);
  expectCodes(expected, 1e-5, (i) => actual.codes[i]);
  actual.absmax.forEach((largest, block) => {
    expect(largest / expected.scales[block]).toBeCloseTo(1, 6);
  });
});

test('equal absmaxes get the level of zero', () => {
  const { codes, offset, absmax } = quantizeAbsmax(new Float32Array(5).fill(0.25), dynamicLevels());
  expect([...codes, offset, ...absmax]).toEqual([127, 127, 127, 127, 127, 0.25, 0]);
});

test('config.json says what that of transformers says', () => {
  for (const [name, doubleQuant] of [
    ['nf4-plain', false],
    ['nf4-double', true],
  ] as const) {
    const theirs = JSON.parse(readFileSync(`test/fixtures/golden/${name}/model/config.json`, 'utf8'));
    expect(nf4Format(doubleQuant).config('BF16')).toEqual({ quantization_config: theirs.quantization_config });
  }
});
