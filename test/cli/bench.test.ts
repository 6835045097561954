import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectRefusal } from './run.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);

/** Heads that are no part of the width, norms of q and k, a tied vocabulary of no whole eights, windows in one layer. */
const config = {
  model_type: 'qwen3',
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
  vocab_size: 99,
  tie_word_embeddings: true,
  max_position_embeddings: 32,
  use_sliding_window: true,
  sliding_window: 8,
  max_window_layers: 1,
};

const own = `${directory}/own`;
const packed = `${directory}/packed`;
beforeAll(() => {
  const write = (name: string, json: object) => {
    mkdirSync(name);
    writeFileSync(`${name}/config.json`, JSON.stringify(json));
  };
  write(own, config);
  // As a fetch of everything but the weights leaves it.
  writeFileSync(`${own}/model.safetensors.index.json`, JSON.stringify({ weight_map: { 'lm_head.weight': 'none' } }));
  const bitsandbytes = { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' };
  write(packed, { ...config, quantization_config: bitsandbytes });
});

interface Report {
  rows: { operation: string; shape: string; variant: string; gflops: number; median_ms: number }[];
  summary: Record<string, number | string>;
}

async function bench(...args: readonly string[]): Promise<Report> {
  const file = `${directory}/bench.json`;
  const { code, stderr } = await lexalign('bench', ...args, '--tier', 'f16', '--json', file);
  expect(code, stderr).toBe(0);
  return JSON.parse(readFileSync(file, 'utf8'));
}

const layer = 64 * (4 + 2 + 2) * 32 + 4 * 32 * 64 + 3 * 64 * 128;

describe('a model of which config.json alone is there', () => {
  it.each(['nf4', 'int8'])('is trained, weights %s', async (quantize) => {
    const args = ['--sequences', '2', '--length', '16', '--steps', '1', '--quantize', quantize];
    const { rows, summary } = await bench('sft', '--model', own, ...args);
    expect(summary).toMatchObject({
      model: 'qwen3 64x2, heads 4/2 of 32, ffn 128, vocab 99, r 16',
      matmul_parameters: 2 * layer + 64 * 99,
      tokens_per_step: 32,
    });
    expect(rows.map(({ shape }) => shape)).toContain('32x104x64');
  });

  it('answers, in its own format where it has one', async () => {
    const { rows } = await bench('rollout', '--model', packed, '--batches', '2', '--length', '4', '--new-tokens', '4');
    expect(rows.map(({ variant }) => variant)).toEqual(['nf4', 'nf4']);
    const [, step] = rows;
    expect(step.gflops * step.median_ms * 1e6).toBeCloseTo(2 * (2 * layer + 64 * 99) * 2, -1);
  });

  it('lends its shapes to kernels: packed as they are in it, attention in each of its windows', async () => {
    const args = ['kernels', '--model', own, '--rows', '16', '--only', 'matmul,attention', '--quantize', 'nf4'];
    const { rows } = await bench(...args);
    const forward = rows.filter(({ variant }) => /^(nt|forward$)/.test(variant));
    expect(forward.map(({ operation, shape, variant }) => `${operation} ${shape} ${variant}`)).toEqual([
      'matmul 16x128x64 nt nf4',
      'matmul 16x64x64 nt nf4',
      'matmul 16x64x128 nt nf4',
      'matmul 16x104x64 nt', // NF4 leaves vocabularies
      'attention 16 rows, 4/2 heads of 32 forward',
      'attention 16 rows, 4/2 heads of 32, window 8 forward',
    ]);
    const work = forward.map(({ gflops, median_ms }) => gflops * median_ms * 1e6);
    expect(work[4]).toBeCloseTo(2 * 4 * 32 * 16 * 16);
    expect(work[5]).toBeCloseTo(2 * 4 * 32 * (16 * 16 - 8 * 8));
  });
});

describe('refuses in one sentence', () => {
  const refused = (code: 1 | 2, sentence: RegExp, ...args: string[]) =>
    expectRefusal(['bench', ...args], code, sentence);

  it('a model that is none', () =>
    refused(
      1,
      /--model nowhere is neither .* nor one of small, llama-3\.1-8b, .*mistral/,
      'sft',
      '--model',
      'nowhere',
    ));
  it('two formats', () => refused(1, /quantised already, as nf4/, 'sft', '--model', packed, '--quantize', 'int4'));
  it('more than the model takes', async () => {
    await refused(
      2,
      /--length must be at most the model's 32 positions, not 33/,
      'sft',
      '--model',
      own,
      '--length',
      '33',
    );
    await refused(2, /--new-tokens must be at most .* 32 positions, not 160/, 'rollout', '--model', own);
    await refused(2, /--sequences must be at most .* 99 tokens/, 'sft', '--model', own, '--sequences', '100');
  });
  it('an operation that is not tuned', () =>
    refused(2, /--only swiglu: known are matmul, attention/, 'kernels', '--tune', '--only', 'swiglu'));
  it('a shape that cannot be packed', () =>
    refused(2, /N and K multiples of 64/, 'kernels', '--shapes', '8x72x64', '--quantize', 'int8'));

  it.each([
    ['--rows', '--shapes', 'kernels --shapes 8x8x8 --rows 4'],
    ['--model', '--shapes', 'kernels --shapes 8x8x8 --model small'],
    ['--shapes', 'matmul', 'kernels --shapes 8x8x8 --only swiglu'],
    ['--quantize', 'matmul', 'kernels --only swiglu --quantize nf4'],
    ['--peer', 'without --tune', 'kernels --tune --peer tfjs'],
    ['--profile', 'bench sft', 'kernels --profile'],
    ['--steps', '--ppo', 'rollout --steps 3'],
    ['--shared-prompt-length', 'rollout --ppo', 'rollout --shared-prompt-length 3'],
    ['--length', 'without --lengths', 'rollout --length 3 --lengths 4'],
    ['--batches', 'bench rollout', 'sft --batches 3'],
    ['--new-tokens', 'bench rollout', 'sft --newTokens 3'],
    ['--tune', 'bench kernels', 'sft --tune'],
  ])('%s where it has no effect', (option, place, line) =>
    refused(2, new RegExp(`${option} has no effect here: it belongs to .*${place}`), ...line.split(' ')),
  );
});

it('takes rows and a model beside --shapes where another operation needs them', async () => {
  const args = ['--only', 'matmul,swiglu', '--shapes', '8x16x8', '--rows', '4', '--model', own];
  const { rows } = await bench('kernels', ...args);
  expect(rows.map(({ shape }) => shape)).toEqual(['8x16x8', '8x16x8', '4 rows of 128', '4 rows of 128']);
});
