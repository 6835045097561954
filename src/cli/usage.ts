import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { UsageError } from '../errors.js';
import { editDistance } from '../text/near.js';
import { createParser } from './parser.js';

/** The known word that `word` was probably meant to be, or null. */
function closest(word: string, known: Iterable<string>): string | null {
  let best: { name: string; distance: number } | null = null;
  for (const name of known) {
    const distance = editDistance(word, name);
    if (
      distance <= Math.max(1, Math.min(4, word.length / 3)) &&
      distance < (best?.distance ?? Number.POSITIVE_INFINITY)
    )
      best = { name, distance };
  }
  return best?.name ?? null;
}

/** " Did you mean …?" where a known word is close, else nothing. */
export function suggest(word: string, known: Iterable<string>, prefix = ''): string {
  const name = closest(word, known);
  return name ? ` Did you mean ${prefix}${name}?` : '';
}

/** The other spelling by which yargs has an option: loraR of lora-r. */
export function camelCase(option: string): string {
  return option.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** Those of `options` that stand on the command line, in any of the forms that yargs takes. */
export function namedOptions(argv: readonly string[], options: readonly string[]): string[] {
  const words = new Set(argv.map((word) => word.split('=')[0]));
  return options.filter((name) => [name, `no-${name}`, camelCase(name)].some((form) => words.has(`--${form}`)));
}

/**
 * What yargs (in English) says of a wrong command line, as one sentence about the options as they are typed. `command`
 * as yargs writes it, "evaluate <measure>".
 */
export function explainUsage(message: string, options: readonly string[], command = ''): string {
  const unknown = /^Unknown arguments?: (.*)$/.exec(message)?.[1].split(', ')[0];
  if (unknown !== undefined && !/^-|\s/.test(unknown)) {
    const guess = suggest(unknown, options, '--');
    return `There is no option or argument ${unknown} here.${guess}`;
  }
  const missing = /^Missing required arguments?: (.*)$/.exec(message)?.[1];
  if (missing) return `Please give ${missing.replace(/[^\s,]+/g, '--$&')}.`;
  const invalid = /Argument: ([^,]+), Given: (.*), Choices: (.*)$/m.exec(message);
  if (invalid) {
    const [, name, value, choices] = invalid;
    return `${options.includes(name) ? '--' : ''}${name} ${value} is none of ${choices}.`;
  }
  const [word, argument] = command.split(' ');
  if (argument && message.startsWith('Not enough non-option arguments'))
    return `${word} needs a ${argument}: see lexalign ${word} --help.`;
  if (/^Did you mean \S+\?$/.test(message)) return `There is no such command. ${message}`;
  return message.replace(/\s*\n\s*/g, ' ');
}

/** Values as yargs would give them of a command line, defaults filled in; throws UsageError for what it would refuse. */
export function parseOptions<Table extends Record<string, Options>>(
  table: Table,
  values: Readonly<Record<string, unknown>>,
): ArgumentsCamelCase<InferredOptionTypes<Table>> & { output: string; data: string } {
  const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  const parsed = createParser([])
    .config(given)
    .options(table)
    .fail((message, error) => {
      throw error ?? new UsageError(explainUsage(message, Object.keys(table)));
    })
    .parseSync();
  return parsed as unknown as ArgumentsCamelCase<InferredOptionTypes<Table>> & { output: string; data: string };
}

/**
 * A command as it is typed in a shell (on Windows, in PowerShell or cmd): those of `names` that have a value in `values`,
 * in the order of `names`; names may be written with _ for -; a list's option comes once for each entry.
 */
export function commandLine(
  command: readonly string[],
  values: Readonly<Record<string, unknown>>,
  names: Iterable<string>,
  { platform }: Pick<NodeJS.Process, 'platform'> = process,
): string {
  const options = [...new Set(names)].flatMap((name) => {
    const [option, value] = [name.replaceAll('_', '-'), values[name]];
    if (value === null || value === undefined) return [];
    if (typeof value === 'boolean') return [value ? `--${option}` : `--no-${option}`];
    return [value].flat().flatMap((one) => [`--${option}`, String(one)]);
  });
  const quote = (word: string) => {
    if (platform === 'win32') return /^[\w.\\/:=+-]+$/.test(word) ? word : `"${word.replaceAll('"', '""')}"`;
    return /^[\w./,:=@+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
  };
  return ['npx', 'lexalign', ...command, ...options].map(quote).join(' ');
}
