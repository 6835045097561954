import { expect, it } from 'vitest';
import { KNOWN_MODELS, knownModel } from '../../models/known.js';
import { tensorSpecs } from '../../models/tensors.js';

/** Parameters as the models' cards and files have them. */
const parameters: Readonly<Record<string, number>> = {
  'llama-3.1-8b': 8_030_261_248,
  'llama-3.2-3b': 3_212_749_824,
  'llama-3.2-1b': 1_235_814_400,
  'qwen2.5-7b': 7_615_616_512,
  'qwen2.5-1.5b': 1_543_714_304,
  'qwen2.5-0.5b': 494_032_768,
  'qwen3-8b': 8_190_735_360,
  'mistral-7b-v0.3': 7_248_023_552,
};

it.each(KNOWN_MODELS)('%s has as many parameters as its files', (name) => {
  const specs = tensorSpecs(knownModel(name)!);
  const count = specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(count).toBe(parameters[name]);
});

it('knows no other names', () => {
  expect(knownModel('constructor')).toBe(null);
  expect(knownModel('llama')).toBe(null);
});
