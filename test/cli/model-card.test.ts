import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { adapterCard, baseTitle, licenseOf, mergedCard } from '../../src/cli/model-card.js';
import { temporaryDirectory } from '../formats/helpers.js';

function frontOf(card: string): Record<string, unknown> {
  return parse(/^---\n([\s\S]*?)\n---\n/.exec(card)![1]);
}

/** A model directory in a hub cache, with this text before its card. */
async function makeBase(front: string): Promise<string> {
  const base = join(await temporaryDirectory(), 'models--Some--Base-1B/snapshots/abc');
  await mkdir(base, { recursive: true });
  await writeFile(join(base, 'README.md'), `${front}# Base\n`);
  return base;
}

test('the card of a run says base, licence, data, settings and measures', async () => {
  const model = await makeBase('---\nlicense: apache-2.0\nlanguage: en\n---\n');
  const card = await adapterCard('/runs/my-run', {
    command: 'sft',
    model,
    base: { sha256: 'b'.repeat(64), tokenizer: null },
    data: [{ file: '/home/me/train.jsonl', sha256: 'd'.repeat(64), rows: 12, supervisedTokens: 34 }],
    options: {
      model,
      output: 'x',
      lora_r: 16,
      learning_rate: 2e-4,
      eval_data: null,
      memory_limit: undefined,
      tier: 'f16',
    },
    result: { outcome: 'finished', eval_loss: null, train_loss: 1.5 },
  });
  expect(frontOf(card)).toEqual({
    base_model: 'Some/Base-1B',
    library_name: 'peft',
    license: 'apache-2.0',
    pipeline_tag: 'text-generation',
    tags: ['base_model:adapter:Some/Base-1B', 'lexalign', 'lora'],
  });
  expect(card).toContain('# my-run\n');
  expect(card).toContain(`SHA-256 of the base's weights: \`${'b'.repeat(64)}\``);
  expect(card).toContain(`| train.jsonl | 12 | 34 | \`${'d'.repeat(64)}\` |`);
  const rows = [...card.matchAll(/^\| `(\w+)` \| (.*) \|$/gm)].map(([, name, value]) => [name, value]);
  expect(Object.fromEntries(rows)).toEqual({
    lora_r: '16',
    learning_rate: '0.0002',
    tier: 'f16',
    outcome: 'finished',
    train_loss: '1.5',
  });
  expect(card).not.toContain('/home/me');
});

test('the card of a PPO run has the figures of its last rollout', async () => {
  const card = await adapterCard('/runs/my-run', {
    command: 'ppo',
    model: await makeBase(''),
    result: { outcome: 'finished', steps: 3, last: { step: 3, 'objective/scores': 0.25, 'objective/kl': 0.5 } },
  });
  for (const [name, value] of Object.entries({ steps: 3, 'objective/scores': 0.25, 'objective/kl': 0.5 }))
    expect(card).toContain(`| \`${name}\` | ${value} |`);
  expect(card).not.toContain('[object');
});

test('a licence that the base does not name is unknown', async () => {
  expect(await licenseOf(await makeBase(''))).toBe('unknown');
  expect(await licenseOf(await makeBase('---\nlicense: [a, b]\n---\n'))).toBe('unknown');
  expect(await licenseOf(await makeBase('---\n: {\n---\n'))).toBe('unknown');
  expect(await licenseOf('/no/such/directory')).toBe('unknown');
});

test('a base is called by its hub id or its directory', () => {
  expect(baseTitle('/cache/models--Qwen--Qwen2.5-0.5B/snapshots/1234')).toBe('Qwen/Qwen2.5-0.5B');
  expect(baseTitle('models/lexi-base/')).toBe('lexi-base');
});

test('the card of a merged model names both of its parts', async () => {
  const card = await mergedCard(await makeBase('---\nlicense: mit\n---\n'), 'runs/my-run', 'BF16');
  expect(frontOf(card)).toMatchObject({ base_model: 'Some/Base-1B', base_model_relation: 'finetune', license: 'mit' });
  expect(card).toContain('# Some/Base-1B with my-run');
  expect(card).toContain('rounded to BF16');
});

test('a name with a bar or a line’s end stays in its cell, and a front without end is not parsed', async () => {
  const keys = Array.from({ length: 200_000 }, (_, i) => `k${i}: 1`).join('\n');
  const model = await makeBase(`---\nlicense: mit\n${keys}\n---\n`);
  const started = performance.now();
  expect(await licenseOf(model)).toBe('unknown');
  expect(performance.now() - started).toBeLessThan(30_000);
  const card = await adapterCard('/runs/my-run', {
    command: 'sft',
    model,
    data: [{ file: 'a|b\n\n# c.jsonl', sha256: 'd', rows: 1 }],
    options: { stop: 'x\r\n| y |' },
  });
  expect(card).toContain('| a\\|b # c.jsonl | 1 |  | `d` |\n');
  expect(card).toContain('| `stop` | x \\| y \\| |\n');
});
