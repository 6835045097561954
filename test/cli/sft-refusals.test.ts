import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { idRows, lexalign, makeWorkplace, spoilCheckpoint, writeRows } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);
const [model, data, output] = [at('model'), at('data.jsonl'), at('deep/er/run')];
const name = 'model.layers.0.self_attn.q_proj.weight';

beforeAll(async () => {
  await writeRandomCheckpoint(model, { hidden: 16, layers: 1, heads: 2, kvHeads: 1, intermediate: 32, vocab: 64 });
  writeRows(data, idRows(6));
});
afterAll(remove);

/** The command must end with `code` and one sentence, without a device and without a trace of the run. */
async function expectRefusal(code: 1 | 2, sentence: RegExp, ...args: readonly string[]): Promise<void> {
  const given = (option: string) => args.includes(option) || args.some((arg) => arg.startsWith(`${option}=`));
  const rest = [
    ['--model', model],
    ['--data', data],
    ['--output', output],
  ]
    .filter(([option]) => !given(option))
    .flat();
  const result = await lexalign('sft', ...rest, ...args);
  expect(result.stderr).toMatch(sentence);
  expect(result.stderr.split('\n')).toHaveLength(1);
  expect(result.stderr).toMatch(/^lexalign: \S/);
  expect(result.code).toBe(code);
  expect(result.stdout).not.toContain('Device:');
  expect(existsSync(at('deep'))).toBe(false);
}

describe('sft refuses, before the device, in one sentence, leaving nothing behind', () => {
  describe('a model', () => {
    type Change = Parameters<typeof spoilCheckpoint>[2];
    const spoilt: [string, RegExp, Change][] = [
      [
        'that is truncated',
        /model\.safetensors is truncated: .* byte \d+/,
        ({ header, data }) => {
          const text = Buffer.from(JSON.stringify(header));
          const length = Buffer.alloc(8);
          length.writeBigUInt64LE(BigInt(text.length));
          return Buffer.concat([length, text, data.subarray(0, -100)]);
        },
      ],
      [
        'that ends in its header',
        /model\.safetensors is truncated: its header ends/,
        ({ header }) => {
          const length = Buffer.alloc(8);
          length.writeBigUInt64LE(5000n);
          return Buffer.concat([length, Buffer.from(JSON.stringify(header))]);
        },
      ],
      ['that is empty', /model\.safetensors is not a safetensors file: it has 0 bytes/, () => Buffer.alloc(0)],
      ['with a huge header', /header would take/, () => Buffer.alloc(64, 255)],
      [
        'whose header lies about offsets',
        /model\.safetensors: tensor model\.layers\.0\S+ .*data_offsets/,
        ({ header }) => {
          header[name].data_offsets[1] += 4;
          return undefined;
        },
      ],
      [
        'whose tensors overlap',
        /overlaps/,
        ({ header }) => {
          const [first, second] = Object.values(header).filter(({ shape }) => shape?.length === 1);
          second.data_offsets = [...first.data_offsets];
          return undefined;
        },
      ],
      [
        'of the wrong dtype',
        /tensor model\.layers\.0\.self_attn\.q_proj\.weight has dtype I32/,
        ({ header }) => {
          header[name].dtype = 'I32';
          return undefined;
        },
      ],
      [
        'with a tensor of the wrong shape',
        /tensor model\.layers\.0\.self_attn\.q_proj\.weight has shape \[8, 32\].*\[16, 16\]/,
        ({ header }) => {
          header[name].shape = [8, 32];
          return undefined;
        },
      ],
      [
        'that lacks a tensor',
        /lack tensor model\.layers\.1\./,
        ({ config }) => {
          config.num_hidden_layers = 2;
          return undefined;
        },
      ],
      [
        'of an unknown architecture',
        /config\.json.*mamba/,
        ({ config }) => {
          config.model_type = 'mamba';
          config.architectures = ['MambaForCausalLM'];
          return undefined;
        },
      ],
    ];
    it.each(spoilt)('%s', async (_, sentence, change) => {
      await expectRefusal(1, sentence, '--model', spoilCheckpoint(model, at('spoilt'), change));
      rmSync(at('spoilt'), { recursive: true });
    });

    it('that is missing, or without weights', async () => {
      await expectRefusal(1, /nowhere does not exist/, '--model', at('nowhere'));
      spoilCheckpoint(model, at('bare'), () => undefined);
      rmSync(at('bare/model.safetensors'));
      await expectRefusal(1, /bare has no weights: neither model\.safetensors nor/, '--model', at('bare'));
    });

    it('that the adapter to start from was not made for', async () => {
      const golden = join(import.meta.dirname, '../fixtures/golden/llama/adapter');
      await expectRefusal(1, /adapter_model\.safetensors.*(shape|belongs|lacks)/, '--init-adapter', golden);
      await expectRefusal(1, /nowhere/, '--init-adapter', at('nowhere'));
      await expectRefusal(1, /adapter_config\.json/, '--init-adapter', model);
    });
  });

  describe('data', () => {
    const good = idRows(3);
    const rows: [string, (object | string)[], RegExp][] = [
      ['that is not JSON', [...good, '{"input_ids": [1,'], /bad\.jsonl, line 4 is not valid JSON/],
      ['that is not an object', [...good, '[1]'], /bad\.jsonl, line 4 is not a JSON object/],
      ['of no known shape', [{ question: 'x' }], /bad\.jsonl, line 1 has none of the known shapes/],
      [
        'without supervised tokens',
        [...good, { input_ids: [5, 6], labels: [5, -100] }],
        /line 4 has no supervised tokens/,
      ],
      [
        'outside the vocabulary',
        [...good, { input_ids: [5, 64] }],
        /line 4 has token id 64, outside the model's vocabulary of 64/,
      ],
      ['with a negative id', [{ input_ids: [5, -1] }], /line 1: "input_ids" holds -1/],
      ['with a senseless weight', [{ input_ids: [5, 6], weight: 'a' }], /line 1: "weight"/],
      ['of text without a tokenizer', [{ text: 'hello' }], /line 1 is text, but the model has no tokenizer/],
      ['without rows', ['', ' '], /bad\.jsonl: the data has no rows/],
    ];
    it.each(rows)('%s', async (_, lines, sentence) => {
      await expectRefusal(1, sentence, '--data', writeRows(at('bad.jsonl'), lines));
      await expectRefusal(1, sentence, '--eval-data', at('bad.jsonl'));
    });

    it('longer than the limit: how many, and what to do', async () => {
      await expectRefusal(
        1,
        /4 of 6 rows are longer than --max-length 8 .*--overlong truncate or --overlong drop/,
        '--max-length',
        '8',
      );
      const long = writeRows(at('long.jsonl'), [...idRows(3), { input_ids: Array(600).fill(5) }]);
      await expectRefusal(1, /1 of 4 rows is longer than --max-length 512 .*600.*long\.jsonl, line 4/, '--data', long);
      await expectRefusal(1, /all 6 rows were dropped/, '--max-length', '2', '--overlong', 'drop');
    });

    it('that is missing', async () => {
      await expectRefusal(1, /--data .*nowhere does not exist/, '--data', at('nowhere'));
      await expectRefusal(1, /is a directory without train\.jsonl/, '--data', model);
      await expectRefusal(1, /--eval-data .*nowhere is not a file/, '--eval-data', at('nowhere'));
      await expectRefusal(1, /neither a file nor a directory/, '--data', '/dev/null');
    });
  });

  describe('an output directory', () => {
    it('that is not empty, a file, or below one', async () => {
      await expectRefusal(1, /--output .*model is not empty: name a new directory/, '--output', model);
      await expectRefusal(1, /--output .* is a file/, '--output', data);
      await expectRefusal(1, /--output .* is a file/, '--output', join(data, 'run'));
    });

    it('that cannot be made', async ({ skip }) => {
      if (process.platform !== 'linux') skip('needs /proc');
      await expectRefusal(1, /--output \/proc\/lexalign is not writable/, '--output', '/proc/lexalign');
    });

    it('though it was there and empty: it stays, empty', async () => {
      mkdirSync(at('empty'));
      await expectRefusal(1, /does not exist/, '--output', at('empty'), '--data', at('nowhere'));
      expect(readdirSync(at('empty'))).toEqual([]);
    });
  });

  describe('options', () => {
    it('that are unknown, with what was meant', async () => {
      await expectRefusal(2, /no option .*lerning-rate.* Did you mean --learning-rate\?/, '--lerning-rate', '1');
      await expectRefusal(2, /no option .*frobnicate/, '--frobnicate', '1');
      await expectRefusal(2, /argument extra/, 'extra');
    });

    it.each([
      ['--batch-size', '0'],
      ['--batch-size', '1.5'],
      ['--learning-rate', 'x'],
      ['--learning-rate', '-1'],
      ['--max-length', '1'],
      ['--lora-r', '0'],
      ['--lora-r', '1e9'],
      ['--lora-r', '1e9'],
      ['--lora-dropout', '1'],
      ['--lora-alpha', '0'],
      ['--num-train-epochs', '0'],
      ['--warmup-ratio', '1.5'],
      ['--adam-beta2', '1'],
      ['--max-grad-norm', '-1'],
      ['--seed', '1e300'],
      ['--seed', '4294967296'],
      ['--max-steps', '-2'],
      ['--eval-steps', '5'],
      ['--early-stopping-patience', '2'],
      ['--init-adapter', ''],
      ['--memory-limit', ''],
      ['--json', ''],
      ['--config', ''],
      ['--overlong', 'maybe'],
      ['--lr-scheduler-type', 'cosin'],
      ['--tier', 'f8'],
      ['--lora-target-modules', 'q_proj,w_proj'],
      ['--memory-limit', 'much'],
    ])('%s %s', async (option, value) => {
      await expectRefusal(2, new RegExp(option), `${option}=${value}`);
    });

    it('without a value', async () => {
      await expectRefusal(2, /--config is empty: give it a value/, '--config', '--seed', '1');
      await expectRefusal(2, /--data is empty/, '--data');
    });

    it('of LoRA, beside an adapter that has settled them', async () => {
      const golden = join(import.meta.dirname, '../fixtures/golden/llama/adapter');
      const sentence = (name: string) => new RegExp(`--${name} with --init-adapter: .* settings are kept`);
      await expectRefusal(2, sentence('lora-r'), '--init-adapter', golden, '--lora-r', '16');
      await expectRefusal(2, sentence('lora-alpha'), '--init-adapter', golden, '--loraAlpha=3');
      await expectRefusal(2, sentence('use-rslora'), '--init-adapter', golden, '--no-use-rslora');
      writeFileSync(at('lora.yaml'), 'lora_dropout: 0\n');
      await expectRefusal(2, sentence('lora-dropout'), '--init-adapter', golden, '--config', at('lora.yaml'));
    });

    it('of a JSON file that could not be written', async () => {
      await expectRefusal(1, /--json .* is a directory: name a file/, '--json', directory);
      await expectRefusal(1, /--json .*nowhere is not a directory/, '--json', at('nowhere/result.json'));
    });

    it('that are missing', async () => {
      const result = await lexalign('sft');
      expect(result.stderr).toMatch(/^lexalign: .*--data.*--output/);
      expect(result.code).toBe(2);
    });
  });

  describe('a --config file', () => {
    const config = (text: string) => {
      writeFileSync(at('run.yaml'), text);
      return ['--config', at('run.yaml')] as const;
    };

    it('that cannot be read', async () => {
      await expectRefusal(
        1,
        /--config .*nowhere\.yaml cannot be read: it does not exist/,
        '--config',
        at('nowhere.yaml'),
      );
      await expectRefusal(1, /--config .* cannot be read/, '--config', directory);
      await expectRefusal(1, /--config .* cannot be read/, ...config('a: [1\nb: }'));
      await expectRefusal(1, /must hold options/, ...config('- 1\n- 2\n'));
    });

    it('with unknown keys, in the section or beside it', async () => {
      await expectRefusal(
        2,
        /run\.yaml: lerning_rate is no option of sft\. Did you mean learning-rate\?/,
        ...config('lerning_rate: 1'),
      );
      await expectRefusal(2, /nonsense is no option/, ...config('sft:\n  nonsense: 1\n'));
      await expectRefusal(2, /nonsense is no option/, ...config('nonsense: 1\nsft:\n  seed: 1\n'));
    });

    it('with values of the wrong kind', async () => {
      await expectRefusal(2, /--learning-rate/, ...config('learning_rate: fast'));
      await expectRefusal(2, /--batch-size/, ...config('batch_size: [1, 2]'));
      await expectRefusal(2, /--use-rslora/, ...config('use_rslora: perhaps'));
      await expectRefusal(2, /seed must be one value/, ...config('seed: {a: 1}'));
      await expectRefusal(2, /not both/, ...config('batch_size: 4\nper_device_train_batch_size: 2'));
      await expectRefusal(
        2,
        /gradient_accumulation_steps must be a number/,
        ...config('gradient_accumulation_steps: x'),
      );
    });
  });
});

describe('a run that cannot fit', () => {
  const refuse = async (...args: readonly string[]) => {
    const result = await lexalign('sft', '--model', model, '--data', data, '--output', output, ...args);
    expect(result.code).toBe(1);
    expect(result.stderr.split('\n')).toHaveLength(1);
    expect(existsSync(at('deep'))).toBe(false);
    return result.stderr;
  };

  it('is refused with what it needs and what to lower', async () => {
    expect(await refuse('--memory-limit', '1KiB')).toMatch(
      /needs [\d.]+ MiB .*--memory-limit is 1\.0 KiB: take a smaller/,
    );
    expect(await refuse('--memory-limit', '1MiB')).toMatch(/needs [\d.]+ MiB .*: lower --lora-r or --max-length/);
    expect(await refuse('--memory-limit', '1MiB', '--gradient-checkpointing', 'off')).toMatch(
      /let it have --gradient-checkpointing auto, or lower/,
    );
    expect(await refuse('--memory-limit', '1MiB', '--micro-batch-tokens', '30')).toMatch(
      /lower --lora-r or --micro-batch-tokens/,
    );
  });

  it('is refused where the longest row passes the micro-batch', async () => {
    expect(await refuse('--micro-batch-tokens', '5')).toMatch(
      /--micro-batch-tokens 5 is less than the longest row's 9/,
    );
  });
});
