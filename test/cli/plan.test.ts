import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { idRows, lexalign, makeWorkplace, metricsOf, writeRows } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const at = (name: string) => `${directory}/${name}`;
afterAll(remove);

/** What `plan … --json` writes, and how the command ended. */
async function plan(...args: readonly string[]) {
  const outcome = await lexalign('plan', ...args, '--json', at('plan.json'));
  if (outcome.stderr.includes('lexalign:')) throw new Error(outcome.stderr);
  return { ...outcome, json: JSON.parse(readFileSync(at('plan.json'), 'utf8')) };
}

const elsewhere = ['--device', 'typical'];
const tokens = (count: number) => ['--max-length', `${count}`, '--micro-batch-tokens', `${count}`];

const small = {
  model_type: 'qwen2',
  hidden_size: 512,
  intermediate_size: 1024,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  vocab_size: 8192,
  max_position_embeddings: 32_768,
};

describe('a plan for a card that is not here', () => {
  it.each(['llama-3.1-8b', 'qwen2.5-7b'])(
    'has %s in NF4, r 16 on all linear layers, 2,048 tokens at once, within 8 GiB',
    async (model) => {
      const args = ['--model', model, '--quantize', 'nf4', ...elsewhere, ...tokens(2048), '--memory-limit', '8GiB'];
      const { code, json, stdout } = await plan(...args, '--gradient-checkpointing', 'on');
      expect(code).toBe(0);
      expect(json).toMatchObject({
        fits: true,
        format: 'nf4',
        micro_batch_tokens: 2048,
        recomputed_layers: json.layers,
      });
      const { flops: _, total, ...parts } = json.memory;
      expect(total).toBeLessThanOrEqual(8 * 2 ** 30);
      expect(Object.values<number>(parts).reduce((a, b) => a + b)).toBe(total);
      expect(stdout).toMatch(/total +7\.\d\d GiB/);
      expect(stdout).toMatch(/Time: not known/);
    },
  );

  it('says what to change where it does not fit, and that fits', async () => {
    mkdirSync(at('small'));
    writeFileSync(at('small/config.json'), JSON.stringify(small));
    const args = ['--model', at('small'), ...elsewhere, '--max-length', '2048'];
    for (const limit of ['230MB', '100MB', '45MB']) {
      const bad = await plan(...args, '--memory-limit', limit, '--gradient-checkpointing', 'off');
      expect(bad.code).toBe(1);
      expect(bad.stdout).toMatch(/It does not fit: .* too much\. What would fit/);
      expect(bad.json.mends.length).toBeGreaterThan(0);
      for (const { options, total } of bad.json.mends) {
        const off = options.includes('--gradient-checkpointing') ? [] : ['--gradient-checkpointing', 'off'];
        const length = options.includes('--max-length') ? args.slice(0, -2) : args;
        const good = await plan(...length, '--memory-limit', limit, ...off, ...options.split(' '));
        expect(good.code, options).toBe(0);
        expect(good.json.memory.total, options).toBe(total);
        expect(bad.stdout).toContain(options);
      }
    }
    const none = await plan(...args, '--memory-limit', '1MB');
    expect(none.code).toBe(1);
    expect(none.json.mends).toEqual([]);
    expect(none.stdout).toContain('No change of options helps');
  });

  it.each<[string, ...string[]]>([
    [
      'ppo',
      '--response-length',
      '64',
      '--prompt-length',
      '40',
      '--micro-batch-tokens',
      '208',
      '--gradient-checkpointing',
      'off',
    ],
    ['generate', '--max-new-tokens', '64', '--prompt-length', '40'],
  ])('says so of a run of %s too, whose keys and values have a line', async (run, ...more) => {
    mkdirSync(at('small'), { recursive: true });
    writeFileSync(at('small/config.json'), JSON.stringify(small));
    const args = ['--run', run, '--model', at('small'), ...elsewhere];
    const whole = await plan(...args, ...more);
    expect(whole.stdout).toMatch(/^ {2}KV cache.* MiB$/m);
    const { total, flops: _, ...parts } = whole.json.memory;
    expect(Object.values<number>(parts).reduce((a, b) => a + b)).toBe(total);
    const { cache, weights } = whole.json.memory;
    // Keys and values of 2 heads of 64 in 16 bits, 4 layers, 64 answers to prompts that share nothing.
    expect(cache).toBe(4 * 2 * 64 * (64 + 39) * 2 * 64 * 2);
    // What one change mends, and what only several together do.
    for (const limit of [`${total - cache / 4}`, `${Math.round(1.2 * weights)}`]) {
      const bad = await plan(...args, ...more, '--memory-limit', limit);
      expect(bad.code).toBe(1);
      expect(bad.json.mends.length).toBeGreaterThan(0);
      if (run === 'ppo') expect(bad.stdout).toContain('--kv-cache-tokens');
      for (const { options, total } of bad.json.mends) {
        const changed = options.split(' ');
        const kept = more.filter((word, i) => !changed.includes(word.startsWith('--') ? word : more[i - 1]));
        const good = await plan(...args, ...kept, '--memory-limit', limit, ...changed);
        expect(good.code, options).toBe(0);
        expect(good.json.memory.total, options).toBe(total);
        expect(total).toBeLessThanOrEqual(Number(limit));
        expect(bad.stdout).toContain(options);
      }
    }
    const none = await plan(...args, ...more, '--memory-limit', '1MB');
    expect(none.code).toBe(1);
    expect(none.json.mends).toEqual([]);
  });

  it('counts once what prompts share, and reads the section of the run in a recipe', async () => {
    mkdirSync(at('small'), { recursive: true });
    writeFileSync(at('small/config.json'), JSON.stringify(small));
    const recipe = `model: ${at('small')}\nsft:\n  max_length: 64\nppo:\n  batch_size: 8\n  response_length: 16\n`;
    writeFileSync(at('ppo.yaml'), recipe);
    const prompts = ['--prompt-length', '40', '--shared-prompt-length', '30'];
    const { json } = await plan('--run', 'ppo', '--config', at('ppo.yaml'), ...elsewhere, ...prompts);
    expect(json.memory.cache).toBe(4 * 2 * (8 * 16 + 30 + 8 * 9) * 2 * 64 * 2);
    writeFileSync(at('named.yaml'), `run: ppo\n${recipe}`);
    expect((await plan('--config', at('named.yaml'), ...elsewhere, ...prompts)).json).toEqual(json);
  });

  it('needs no more of a model than config.json, which says how its weights are packed', async () => {
    const total = async (name: string, more: object, ...args: readonly string[]) => {
      mkdirSync(at(name));
      writeFileSync(at(`${name}/config.json`), JSON.stringify({ ...small, ...more }));
      const { json } = await plan('--model', at(name), ...elsewhere, ...args);
      return [json.format, json.memory.total];
    };
    const plain = await total('plain', {});
    expect(plain[0]).toBe('none');
    const nf4 = { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' };
    expect(await total('nf4', { quantization_config: nf4 })).toEqual(await total('to-nf4', {}, '--quantize', 'nf4'));
    const mlx = { quantization: { bits: 4, group_size: 64 } };
    const int4 = await total('to-int4', {}, '--quantize', 'int4');
    expect(await total('mlx', mlx)).toEqual(int4);
    const gptq = await total('gptq', { quantization_config: { quant_method: 'gptq', bits: 4, group_size: 64 } });
    expect(gptq[1]).toBeGreaterThan(int4[1]); // its vocabulary is not packed
    expect(gptq[1]).toBeLessThan(plain[1]);
    const awq = { quant_method: 'awq', w_bit: 4, q_group_size: 64, version: 'GEMM' };
    expect(await total('awq', { quantization_config: awq })).toEqual(gptq);
    mkdirSync(at('old'));
    writeFileSync(at('old/quantize_config.json'), JSON.stringify({ bits: 4, group_size: 64 }));
    writeFileSync(at('old/config.json'), JSON.stringify(small));
    const { json } = await plan('--model', at('old'), ...elsewhere);
    expect([json.format, json.memory.total]).toEqual(gptq);
  });

  it.each<[object, RegExp]>([
    [{ quant_method: 'fp8' }, /quantization_config: quant_method is "fp8"; it must be one of bitsandbytes, gptq, awq/],
    [{ quant_method: 'compressed-tensors', format: 'int-quantized' }, /quant_method is "compressed-tensors"/],
    [{ quant_method: 'bitsandbytes', load_in_8bit: true }, /load_in_8bit is true; it must be false: 8-bit is not read/],
    [{ quant_method: 'gptq', bits: 8, group_size: 128 }, /bits is 8; it must be 4: other widths are not read/],
  ])(
    'refuses weights of a format that is not read, before they are fetched: %j',
    async (quantization_config, sentence) => {
      mkdirSync(at('unread'), { recursive: true });
      writeFileSync(at('unread/config.json'), JSON.stringify({ ...small, quantization_config }));
      const { code, stderr } = await lexalign('plan', '--model', at('unread'), ...elsewhere);
      expect(stderr).toMatch(sentence);
      expect(code).toBe(1);
    },
  );

  it('counts the time by the rate it is given', async () => {
    const rows = writeRows(at('ids.jsonl'), idRows(12));
    const args = ['--model', 'qwen2.5-0.5b', ...elsewhere, '--data', rows, '--tokens-per-second', '2'];
    const { stdout, json } = await plan(...args, '--num-train-epochs', '2', '--batch-size', '4');
    expect(json.work).toMatchObject({ rows: 12, steps: 6 });
    const seconds = (json.work.tokens / 2).toPrecision(2);
    expect(stdout).toContain(`Time: ${Number(seconds) < 90 ? `${seconds} s` : ''}`);
    expect(stdout).toMatch(/at 2 tokens\/s \(as --tokens-per-second says\)/);
  });
});

describe('a plan of the PPO of a study', () => {
  const golden = join(import.meta.dirname, '../fixtures/golden/llama');
  const adapter = ['--init-adapter', join(golden, 'adapter')];
  const run = [
    ...['--run', 'ppo', '--model', join(golden, 'model'), ...elsewhere, '--prompt-length', '40', '--batch-size', '8'],
    ...['--response-length', '16', '--micro-batch-tokens', '56', '--gradient-checkpointing', 'on'],
  ];
  const planPpo = async (recipe: string | null, ...args: readonly string[]) => {
    if (recipe !== null) writeFileSync(at('study.yaml'), recipe);
    const { json, stdout } = await plan(...run, ...(recipe === null ? [] : ['--config', at('study.yaml')]), ...args);
    return { json, memory: json.memory, head: stdout.split('\n').find((line) => line.startsWith('Model:')) };
  };
  /** SFT's adapter is of the golden adapter's shape. */
  const sft = 'sft: { lora_r: 4, lora_alpha: 8, lora_target_modules: [q_proj, v_proj] }';
  const study = (ppo: string, align = '') => `align: { output: runs/study, ${align} }\n${sft}\nppo: { ${ppo} }\n`;
  const newAdapter = (r: number) => ['--lora-r', `${r}`, '--lora-target-modules', 'q_proj,v_proj'];

  it('is that of going on from an adapter such as its SFT leaves', async () => {
    const { memory, head } = await planPpo(study('lora_r: 32, kl_coef: 0.2'));
    expect(head).toMatch(/PPO of an adapter of rank 4 on q_proj, v_proj, the study's of SFT; rollouts/);
    const started = await planPpo(null, ...adapter);
    expect(memory).toEqual(started.memory);
    // Given itself, it is taken, and the recipe's settings of LoRA are not in its way.
    expect((await planPpo(study('lora_r: 32'), ...adapter)).memory).toEqual(started.memory);
    expect((await planPpo(study('', 'stages: [ppo, sft, sft-ppo]'))).memory).toEqual(started.memory);
  });

  it('has a new adapter over the base in the stage ppo: with settings of sft, and its own before them', async () => {
    const { memory, head } = await planPpo(study('lora_r: 8', 'stages: ppo'));
    expect(head).toMatch(/PPO of an adapter of rank 8 on q_proj, v_proj; rollouts/);
    expect(memory).toEqual((await planPpo(null, ...newAdapter(8))).memory);
  });

  it('takes the command line before the recipe', async () => {
    const { memory } = await planPpo(study(''), '--lora-r', '2', '--ref-adapter', 'none');
    expect(memory).toEqual((await planPpo(null, ...newAdapter(2))).memory);
  });

  it('mends the adapter together with its reference', async () => {
    const ofRank = (r: number) => study('').replace('lora_r: 4', `lora_r: ${r}`);
    const limit = (await planPpo(ofRank(16))).memory.total;
    const { json } = await planPpo(ofRank(64), '--memory-limit', `${limit}`);
    expect(json.fits).toBe(false);
    expect(json.mends).toContainEqual({ options: '--lora-r 16', total: limit });
  });

  it('is of the section ppo alone where the file is no study', async () => {
    const { memory } = await planPpo(`${sft}\nppo: { lora_r: 8 }\n`);
    expect(memory).toEqual((await planPpo(null, '--lora-r', '8')).memory);
  });
});

describe('a plan for this device', () => {
  beforeAll(async () => {
    const shape = { hidden: 64, layers: 2, heads: 2, kvHeads: 1, intermediate: 128, vocab: 64 };
    await writeRandomCheckpoint(at('model'), shape);
    writeRows(at('train.jsonl'), idRows(13));
    writeFileSync(
      at('recipe.yaml'),
      `sft:\n  model: ${at('model')}\n  data: ${at('train.jsonl')}\n  batch_size: 5\n  num_train_epochs: 1\n  lora_r: 8\n  learning_rate: 0.01\n  gradient_checkpointing: true\n  quantize: int4\n`,
    );
  });

  it('is what the run of the same recipe takes: memory, steps and tokens', async () => {
    const recipe = ['--config', at('recipe.yaml')];
    const { code, json, stdout } = await plan(...recipe);
    expect(code).toBe(0);
    const run = await lexalign('sft', ...recipe, '--output', at('run'));
    expect(run.code).toBe(0);
    const { memory } = JSON.parse(readFileSync(at('run/run.json'), 'utf8'));
    expect(memory).toMatchObject(json.memory);
    expect(memory).toMatchObject({ micro_batch_tokens: json.micro_batch_tokens, recomputed_layers: 2 });
    const steps = metricsOf(at('run'));
    expect(json.work.steps).toBe(steps.length);
    expect(json.work.tokens).toBe(steps.reduce((sum, step) => sum + step.tokens, 0));
    const table = (text: string) =>
      text.slice(text.indexOf('Memory plan'), text.indexOf('total')).replace(/on the device: \S+ GiB/, '');
    expect(table(stdout)).toBe(table(run.stdout));
    expect(stdout).toMatch(
      /Time: .* s or more, at [\d.]+ tokens\/s or fewer \(.*product of 64x128x64 just reached here/,
    );
  });

  it('takes a directory whose weights are elsewhere', async () => {
    mkdirSync(at('bare'));
    copyFileSync(at('model/config.json'), at('bare/config.json'));
    const [bare, whole] = [await plan('--model', at('bare')), await plan('--model', at('model'))];
    expect(bare.json.memory).toEqual(whole.json.memory);
  });
});

describe('plan refuses in one sentence', () => {
  it.each<[number, RegExp, ...string[]]>([
    [1, /--model llama-9b is neither a directory .* nor one of llama-3\.1-8b/, '--model', 'llama-9b'],
    [1, /--micro-batch-tokens 100 is less than the longest row's 1024/, ...elsewhere, '--micro-batch-tokens', '100'],
    [2, /--tokens-per-second must be above 0/, '--tokens-per-second', '0'],
    [2, /--lora-r must be a whole number/, '--lora-r', '0'],
    [2, /--lora-r with --init-adapter: .*leave it out/, '--init-adapter', 'x', '--lora-r', '4'],
    [2, /--top-k must be a whole number from 0 to below 2\^32/, '--run', 'ppo', '--top-k', '4294967296'],
    [2, /--memory-limit lots: write bytes as 8GiB/, '--memory-limit', 'lots'],
    [1, /--data nowhere does not exist/, '--data', 'nowhere'],
    [2, /--max-length says nothing of --run ppo: leave it out/, '--run', 'ppo', '--max-length', '64'],
    [2, /--prompt-length says nothing of --run sft/, '--prompt-length', '64'],
    [2, /--tokens-per-second says nothing of --run generate/, '--run', 'generate', '--tokens-per-second', '5'],
    [2, /--prompt-length with --data: .*leave it out/, '--run', 'ppo', '--data', 'x', '--prompt-length', '5'],
    [
      2,
      /--shared-prompt-length 256 must be less than --prompt-length 256/,
      '--run',
      'ppo',
      '--shared-prompt-length',
      '256',
    ],
    [1, /256 tokens and --response-length 40000 pass the model's 32768/, '--run', 'ppo', '--response-length', '40000'],
    [1, /--prompt-length 40000 and --max-new-tokens 128 pass/, '--run', 'generate', '--prompt-length', '40000'],
    [
      1,
      /--micro-batch-tokens 100 is less than the longest prompt and answer, 512/,
      '--run',
      'ppo',
      '--micro-batch-tokens',
      '100',
    ],
    [2, /quantize/, '--quantize', 'int2'],
  ])('%d %s', async (code, sentence, ...args) => {
    const model = args.some((arg) => arg === '--model') ? [] : ['--model', 'qwen2.5-0.5b'];
    const result = await lexalign('plan', ...model, ...args);
    expect(result.stderr).toMatch(sentence);
    expect(result.stderr).toMatch(/^lexalign: /);
    expect(result.stderr.split('\n')).toHaveLength(1);
    expect(result.code).toBe(code);
    expect(result.stdout).toBe('');
  });

  it('to quantise what is quantised', async () => {
    mkdirSync(at('packed'));
    const config = JSON.parse(readFileSync(at('model/config.json'), 'utf8'));
    const quantization_config = { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' };
    writeFileSync(at('packed/config.json'), JSON.stringify({ ...config, quantization_config }));
    const { code, stderr } = await lexalign('plan', '--model', at('packed'), '--quantize', 'int4');
    expect(stderr).toMatch(/--quantize int4: the weights of .*packed are quantised already, as nf4/);
    expect(code).toBe(1);
  });
});
