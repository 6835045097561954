import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ppoCommand, preparePpo } from './ppo-helpers.js';
import { lexalign, makeWorkplace, writeRows } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);

beforeAll(() => preparePpo(at));
afterAll(remove);

describe('ppo refuses, before the device, in one sentence', () => {
  const refuse = async (code: 1 | 2, sentence: RegExp, ...args: readonly string[]) => {
    const given = (name: string) => args.includes(name);
    const named = ppoCommand(at, 'refused').slice(1);
    const rest = [];
    for (let i = 0; i < named.length; i += 2) if (!given(named[i])) rest.push(named[i], named[i + 1]);
    const result = await lexalign('ppo', ...rest, ...args);
    expect(result.stderr).toMatch(sentence);
    expect(result.stderr.split('\n')).toHaveLength(1);
    expect(result.code).toBe(code);
    expect(result.stdout).not.toContain('Device:');
    expect(existsSync(at('refused'))).toBe(false);
  };

  it('adapters of another base, and references that lack the policy’s modules', async () => {
    const golden = join(import.meta.dirname, '../fixtures/golden/llama/adapter');
    await refuse(1, /adapter_model\.safetensors.*(shape|belongs|lacks)/, '--init-adapter', golden);
    await refuse(1, /adapter_model\.safetensors.*(shape|belongs|lacks)/, '--ref-adapter', golden);
    const config = JSON.parse(readFileSync(at('sft/adapter_config.json'), 'utf8'));
    const made = [
      'sft',
      '--model',
      at('model'),
      '--data',
      at('train.jsonl'),
      '--output',
      at('only-q'),
      '--max-steps',
      '1',
    ];
    expect((await lexalign(...made, '--lora-target-modules', 'q_proj')).code).toBe(0);
    expect(config.target_modules).toEqual(['q_proj', 'v_proj']);
    await refuse(
      1,
      /--ref-adapter .*only-q does not adapt v_proj, which the policy does/,
      '--ref-adapter',
      at('only-q'),
    );
  });

  it('rows that are no ranking questions', async () => {
    const row = { messages: [{ role: 'user', content: 'x' }], ranking: ['a', 'b'], language: 'en' };
    const bad: [object, RegExp][] = [
      [{ ...row, ranking: [] }, /line 2: "ranking" must be a list of words/],
      [{ ...row, ranking: ['a', 'A.'] }, /line 2: "ranking" must be a list without a word twice/],
      [{ ...row, counts: [1, 2] }, /line 2: "counts" must be a number a word/],
      [{ ...row, counts: [2, 2] }, /line 2: "counts" must be .*not all alike/],
      [{ ...row, language: 'fr' }, /line 2: "language" must be "en" or "zh"/],
      // What rows for sft are refused for, in the same words.
      [{ ...row, messages: [] }, /line 2: "messages" is not a list of messages/],
      [
        { ...row, tools: [{ type: 'function' }] },
        /line 2 has "tools", which no chat template is given here: write them into the system message/,
      ],
      [
        { ...row, messages: [{ role: 'assistant', content: '', tool_calls: [{}] }, ...row.messages] },
        /line 2: message 1 has "tool_calls", which the chat template of .* does not write: leave it out, or write it into/,
      ],
      [{ ...row, messages: [{ ...row.messages[0], name: 'y' }] }, /line 2: message 1 has "name", which the chat/],
      [{ ...row, documents: [{}] }, /line 2 has "documents", which no chat template is given here/],
      [
        { ...row, prompt: 'x' },
        /line 2 has more than one of the known shapes: a row is \{"messages": \[…\], "ranking"/,
      ],
      [
        { ...row, messages: [{ role: 'assistant', tool_calls: [{}] }, ...row.messages] },
        /line 2: message 1 has "tool_calls", which/,
      ],
      [
        { ...row, messages: [{ role: 'user', content: 'x', weight: 1 }] },
        /line 2: message 1 of user has "weight" 1: only those of assistant take one, 0 or 1/,
      ],
      [{ ...row, messages: [{ role: 'user', content: 'x', train: true }] }, /line 2: message 1 has "train": say/],
      [{ ...row, weight: '2' }, /line 2: "weight" is "2", not a number from/],
      [{ ...row, weight: 2 }, /line 2: "weight" must be 1: every question counts alike/],
      [{ ...row, messages: [...row.messages, { role: 'assistant', content: 'y' }] }, /line 2: .* leave out the answer/],
    ];
    for (const [line, sentence] of bad) {
      writeRows(at('bad.jsonl'), [row, line]);
      await refuse(1, sentence, '--data', at('bad.jsonl'));
    }
    await refuse(1, /pass the model's 512 positions: lower it/, '--response-length', '510');
    await refuse(
      1,
      /places in the KV cache, more than the 9 that --kv-cache-tokens allows: raise it, or shorten/,
      '--kv-cache-tokens',
      '9',
    );
  });

  it('a horizon of the KL coefficient that would turn it negative', async () => {
    const words = ['--kl-target', '6', '--kl-horizon', '1'];
    await refuse(2, /--kl-horizon 1 must be above 1\.2, a fifth of --batch-size/, ...words);
  });

  it('rewards that are none', async () => {
    await refuse(2, /--reward ranks is none of rank, strict-rank, coverage, nor a module's file/, '--reward', 'ranks');
    await refuse(1, /--reward .*nowhere\.mjs is not a file/, '--reward', at('nowhere.mjs'));
    writeFileSync(at('broken.mjs'), 'export default 3;');
    await refuse(1, /broken\.mjs has no function as its default export/, '--reward', at('broken.mjs'));
    writeFileSync(at('worse.mjs'), 'throw new Error("at once");');
    await refuse(1, /worse\.mjs cannot be loaded: at once/, '--reward', at('worse.mjs'));
  });

  it('rewards that pay for another answer than the questions ask for', async () => {
    const coverage = /--reward coverage pays for words .* every question of .*rank\.jsonl shows all .*data --lists/;
    await refuse(1, coverage, '--reward', 'coverage');
    const made = [
      ...['data', 'generic', '--input', join(import.meta.dirname, '../../datasets/mini-norms/en-us.tsv')],
      ...['--output', at('norms'), '--language', 'en', '--prompts', 'lexi-base', '--split', '3,0,97', '--lists'],
    ];
    expect((await lexalign(...made)).code).toBe(0);
    for (const reward of ['rank', 'strict-rank']) {
      const order = new RegExp(`--reward ${reward} pays for the order .* none of .*lists.*data --ranking`);
      await refuse(1, order, '--reward', reward, '--data', at('norms/lists'));
    }
  });

  it.each([
    ['--num-generations', '4'],
    ['--num-mini-batches', '7'],
    ['--temperature', '0'],
    ['--gamma', '1.5'],
    ['--top-p', '0'],
    ['--total-episodes', '-1'],
    ['--kl-coef', '-1'],
    ['--lora-r', '8'],
    ['--kv-cache-tokens', '-1'],
    ['--coverage-k', '3'],
    ['--stop', ''],
  ])('%s %s', async (option, value) => {
    await refuse(2, new RegExp(option), option, value);
  });
});
