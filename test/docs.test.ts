import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Options } from 'yargs';
import { commands } from '../src/cli/registry.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const pages = ['README.md', 'bench/README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)];

/** Cells of one option. */
function cells(name: string, option: Options): string[] {
  const kinds = option.choices ? option.choices.join(', ') : option.type === 'array' ? 'text, repeatable' : option.type;
  const shown =
    { string: 'text', boolean: 'switch', number: 'number' }[kinds as string] ?? `${kinds ?? 'nothing or text'}`;
  const fallback = option.demandOption ? 'required' : option.default === undefined ? '' : `\`${option.default}\``;
  return [`--${name}`.replace(/.+/, '`$&`'), shown, fallback, `${option.describe}`.replace(/[|<]/g, '\\$&')];
}

/** A Markdown table as the formatter writes it. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(3, ...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
  return [line(rows[0]), line(widths.map((width) => '-'.repeat(width))), ...rows.slice(1).map(line)].join('\n');
}

/** docs/options.md, whole. */
function optionsPage(): string {
  const sections = commands.map(({ command, describe: text, options }) => {
    const rows = Object.entries(options).filter(([, option]) => !option.hidden);
    return [
      `## \`${command}\``,
      `${text}.`,
      table([['option', 'takes', 'default', 'what'], ...rows.map(([name, option]) => cells(name, option))]),
    ].join('\n\n');
  });
  return `${[
    '# Options',
    'Written from the tables in `src/cli` by `npx vitest run test/docs.test.ts -u`; the same test fails when they differ.',
    'Every switch has a `--no-` form. Commands with `--config` read the same names, with `-` or `_`, from a YAML file, at\nits top or in a section named after the command; what the command line gives wins over the file, and the file\nover the defaults.\nThe model and the device of a study’s section `align` (`model`, `quantize`, `tier`, `device`, `memory_limit`) hold for its\nother sections too.\nOf `sft`, `per_device_train_batch_size` and `gradient_accumulation_steps` are understood too: their product is the batch\nsize, whether they stand together or one at the top and one in the section. The second alone is refused, and so are both\nfor `ppo`.',
    ...sections,
  ].join('\n\n')}\n`;
}

describe('the documents', () => {
  it('list the options as the commands have them', async () => {
    await expect(optionsPage()).toMatchFileSnapshot(join(root, 'docs', 'options.md'));
  });

  it('draw the layers as the test holds them', () => {
    const list = /^const layers = \[([^\]]+)\]/m.exec(read('test/layers.test.ts'))?.[1] ?? '';
    const held = [...list.matchAll(/'([^']+)'/g)].map((match) => match[1]);
    const table = /## Layers[\s\S]*?\n\n(\|[\s\S]*?)\n\n/.exec(read('docs/architecture.md'))?.[1] ?? '';
    const drawn = [...table.matchAll(/^\| `([^`]+)` +\|/gm)].map((match) => match[1]);
    expect(held.length).toBeGreaterThan(10);
    expect(drawn).toEqual(held);
  });

  it.each(pages)('%s links only to what is there', (page) => {
    for (const [, target] of read(page).matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g))
      expect(existsSync(join(root, dirname(page), target)), target).toBe(true);
  });

  it.each(pages)('%s links only to what is in the package', (page) => {
    const { files } = JSON.parse(read('package.json')) as { files: string[] };
    for (const [, target] of read(page).matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      const path = posix.normalize(posix.join(dirname(page), target));
      expect(
        files.some((file) => path === file || path.startsWith(`${file}/`)),
        path,
      ).toBe(true);
    }
  });

  it.each(pages)('%s names only commands and options that exist', (page) => {
    const text = read(page).replaceAll(/\\\n\s*/g, ' ');
    for (const [line, name] of text.matchAll(/npx lexalign ([a-z-]+)[^\n`]*/g)) {
      const command = commands.find((one) => one.command.split(' ')[0] === name);
      expect(command, line).toBeDefined();
      for (const [, option] of line.matchAll(/ --([a-z0-9-]+)/g))
        expect(['help', ...Object.keys(command?.options ?? {})], line).toContain(option.replace(/^no-/, ''));
    }
  });

  it('name only files of the project that exist', () => {
    for (const page of pages) {
      for (const [, path] of read(page).matchAll(
        /`((?:src|kernels|models|datasets|recipes|scripts|test|bench|docs)\/[\w./-]+)`/g,
      ))
        expect(path.includes('NAME') || existsSync(join(root, path)), `${page}: ${path}`).toBe(true);
    }
  });
});
