import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { lexalign } from './sft-helpers.js';

const page = join(import.meta.dirname, '../../docs/memory.md');

/** Model, weights, tokens of a micro-batch, gradient checkpointing, and further options. */
const rows: readonly (readonly [string, string, number, string, string?])[] = [
  ['llama-3.1-8b', 'nf4', 2048, 'on'],
  ['llama-3.1-8b', 'nf4', 2048, 'off'],
  ['llama-3.1-8b', 'nf4', 8192, 'on'],
  ['llama-3.1-8b', 'int4', 2048, 'on'],
  ['llama-3.1-8b', 'none', 2048, 'on'],
  ['llama-3.1-8b', 'nf4', 2048, 'on', '--lora-r 64 --lora-target-modules q_proj,v_proj'],
  ['qwen2.5-7b', 'nf4', 2048, 'on'],
  ['qwen2.5-7b', 'int4', 2048, 'on'],
  ['qwen2.5-7b', 'nf4', 2048, 'on', '--lora-r 64 --lora-target-modules q_proj,v_proj'],
  ['qwen3-8b', 'nf4', 2048, 'on'],
  ['mistral-7b-v0.3', 'nf4', 2048, 'on'],
  ['llama-3.2-3b', 'none', 2048, 'on'],
  ['llama-3.2-1b', 'none', 2048, 'off'],
  ['qwen2.5-1.5b', 'none', 2048, 'on'],
  ['qwen2.5-0.5b', 'none', 2048, 'off'],
];

/** Model, weights, LoRA, answers of a rollout, and their tokens. */
const ppoRows: readonly (readonly [string, string, string, number, number])[] = [
  ['llama-3.1-8b', 'nf4', 'r 16, all linear', 64, 256],
  ['llama-3.1-8b', 'nf4', 'r 64, q and v', 64, 256],
  ['llama-3.1-8b', 'int4', 'r 16, all linear', 64, 256],
  ['llama-3.1-8b', 'nf4', 'r 16, all linear', 16, 256],
  ['qwen2.5-7b', 'nf4', 'r 16, all linear', 64, 256],
  ['llama-3.2-1b', 'none', 'r 16, all linear', 64, 256],
];

/** The total that a command prints, to a tenth of a GiB: kernels come and go by some megabytes. */
async function totalOf(command: readonly string[]): Promise<string> {
  const { stdout, stderr } = await lexalign(...command);
  const total = /^ {2}total +([\d.]+) GiB$/m.exec(stdout)?.[1];
  if (!total) throw new Error(stderr || stdout);
  return `${Number(total).toFixed(1)} GiB`;
}

/** The table as the formatter writes it. */
function table(cells: readonly (readonly string[])[]): string {
  const widths = cells[0].map((_, column) => Math.max(3, ...cells.map((row) => row[column].length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
  return [line(cells[0]), line(widths.map((width) => '-'.repeat(width))), ...cells.slice(1).map(line)].join('\n');
}

it('docs/memory.md says what its commands print', async () => {
  const cells = [['model', 'weights', 'LoRA', 'tokens', 'checkpointing', 'memory', 'command']];
  for (const [model, format, tokens, checkpointing, more] of rows) {
    const command =
      `plan --model ${model} --quantize ${format} --max-length ${tokens} --micro-batch-tokens ${tokens} ` +
      `--gradient-checkpointing ${checkpointing}${more ? ` ${more}` : ''} --device typical`;
    const lora = more ? 'r 64, q and v' : 'r 16, all linear';
    const weights = format === 'none' ? '16 bits' : format;
    cells.push([
      model,
      weights,
      lora,
      `${tokens}`,
      checkpointing,
      await totalOf(command.split(' ')),
      `\`npx lexalign ${command}\``,
    ]);
  }
  const ppoCells = [['model', 'weights', 'LoRA', 'answers', 'memory', 'command']];
  for (const [model, format, lora, answers, length] of ppoRows) {
    const modules = lora.startsWith('r 64') ? ' --lora-r 64 --lora-target-modules q_proj,v_proj' : '';
    const command =
      `plan --run ppo --model ${model} --quantize ${format} --batch-size ${answers} --response-length ${length} ` +
      `--prompt-length 200 --shared-prompt-length 150 --micro-batch-tokens 2048 --gradient-checkpointing on${modules} --device typical`;
    ppoCells.push([
      model,
      format === 'none' ? '16 bits' : format,
      lora,
      `${answers} of ${length}`,
      await totalOf(command.split(' ')),
      `\`npx lexalign ${command}\``,
    ]);
  }
  const text = readFileSync(page, 'utf8')
    .replace(/(## How much\n\n[^|]*\n\n)\|[\s\S]*?\n\n(?=Each row)/, (_, head) => `${head}${table(cells)}\n\n`)
    .replace(/(## PPO\n\n[^|]*\n\n)\|[\s\S]*?\n\n/, (_, head) => `${head}${table(ppoCells)}\n\n`);
  await expect(text).toMatchFileSnapshot(page);
});
