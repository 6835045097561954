import { basename, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import { readFileInside } from '../formats/files.js';
import { hubIdOf } from '../formats/hub-cache.js';

const MAX_CARD_BYTES = 4_000_000;
const MAX_FRONT_CHARACTERS = 1 << 16;

const licenseNote =
  '`license` above is the base model’s, as its own card has it. The data may have terms of their own: check both before you pass this on.';

/** What a card calls a base model: its hub id where the directory is one of the hub's cache, else the directory's name. */
export function baseTitle(directory: string): string {
  return hubIdOf(directory) ?? basename(resolve(directory));
}

/** `license` of the model card of a directory; "unknown" where there is none, which the hub takes, too. */
export async function licenseOf(directory: string): Promise<string> {
  const card = await readFileInside(directory, 'README.md', MAX_CARD_BYTES).catch(() => null);
  const front = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card?.toString('utf8') ?? '')?.[1];
  // The parser's time grows with the square of the keys.
  if (front === undefined || front.length > MAX_FRONT_CHARACTERS) return 'unknown';
  try {
    const { license } = (parse(front) ?? {}) as { license?: unknown };
    return typeof license === 'string' ? license : 'unknown';
  } catch {
    return 'unknown';
  }
}

/** README.md of a run's adapter, with the front matter that Hugging Face's hub reads, from what run.json says. */
export async function adapterCard(directory: string, run: Readonly<Record<string, unknown>>): Promise<string> {
  const model = String(run.model);
  const base = baseTitle(model);
  const license = await licenseOf(model);
  const digest = (run.base as { sha256?: string } | undefined)?.sha256;
  const data = (run.data ?? []) as Record<string, unknown>[];
  return card(
    {
      base_model: base,
      library_name: 'peft',
      license,
      pipeline_tag: 'text-generation',
      tags: [`base_model:adapter:${base}`, 'lexalign', 'lora'],
    },
    [
      `# ${basename(resolve(directory))}`,
      `A LoRA adapter for ${base}, trained with \`lexalign ${run.command}\`.${digest ? ` SHA-256 of the base's weights: \`${digest}\`.` : ''}`,
      licenseNote,
      '## Data',
      table(
        ['file', 'rows', 'supervised tokens', 'SHA-256'],
        data.map((d) => [basename(`${d.file}`), `${d.rows}`, `${d.supervisedTokens ?? ''}`, `\`${d.sha256}\``]),
      ),
      '## Settings',
      table(
        ['option', 'value'],
        Object.entries(settingsOf(run)).map(([name, value]) => [`\`${name}\``, String(value)]),
      ),
      '## Measures',
      table(
        ['measure', 'value'],
        measuresOf(run).map(([name, value]) => [`\`${name}\``, String(value)]),
      ),
      '`run.json` has the rest, `metrics.jsonl` a line for every step.',
    ],
  );
}

/** README.md of a merged model. */
export async function mergedCard(model: string, adapter: string, dtype: string): Promise<string> {
  const base = baseTitle(model);
  const license = await licenseOf(model);
  return card(
    {
      base_model: base,
      base_model_relation: 'finetune',
      license,
      pipeline_tag: 'text-generation',
      tags: ['lexalign', 'merged'],
    },
    [
      `# ${base} with ${basename(resolve(adapter))}`,
      `${base} with the LoRA adapter ${basename(resolve(adapter))} merged into its weights: W + s·B·A, added up in 32 bits and rounded to ${dtype}.`,
      licenseNote,
    ],
  );
}

function card(front: object, paragraphs: readonly string[]): string {
  return `---\n${stringify(front)}---\n\n${paragraphs.join('\n\n')}\n`;
}

/** Options that say how it was trained: not where files lie, and not what was left out. */
function settingsOf(run: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const places = ['model', 'data', 'eval_data', 'output', 'config', 'json', 'resume', 'debug_gpu', 'profile'];
  const options = Object.entries((run.options ?? {}) as object);
  return Object.fromEntries(options.filter(([name, value]) => !places.includes(name) && (value ?? '') !== ''));
}

/** Figures of a run's result; those of PPO are of its last rollout. */
function measuresOf({ result }: Readonly<Record<string, unknown>>): [string, unknown][] {
  const { last, ...others } = (result ?? {}) as Record<string, unknown>;
  return Object.entries({ ...others, ...(last as object | null | undefined) }).filter(
    ([, value]) => value !== null && typeof value !== 'object',
  );
}

/** A table of Markdown; what a cell holds, a file's name for instance, stays in it. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const inLine = (cell: string) => cell.replace(/\s*[\r\n]\s*/g, ' ').replaceAll('|', '\\|');
  const line = (cells: readonly string[]) => `| ${cells.map(inLine).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
