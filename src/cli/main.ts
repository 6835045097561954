import yargs, { type ArgumentsCamelCase, type Argv, type Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { readConfigFile } from './config-file.js';
import { runOnSoftwareDriver } from './gpu.js';
import { commands } from './registry.js';
import { explainUsage } from './usage.js';

/** A command of the command line: a name, its options, and what runs. */
export interface Command {
  /** As yargs writes it, e.g. "evaluate <measure>". */
  readonly command: string;
  readonly describe: string;
  readonly options: Readonly<Record<string, Options>>;
  /** Needs a device: is started again on the software driver where there is no GPU. */
  readonly computes: boolean;
  readonly positional?: (args: Argv) => Argv;
  /** Gives the exit code. */
  run(args: ArgumentsCamelCase): Promise<number>;
}

/** Runs a command line; gives the exit code: 0 done, 1 a failed run, 2 wrong usage, 130 interrupted. */
export async function main(argv: readonly string[]): Promise<number> {
  let code = 0;
  const program = yargs(joinDashes(argv))
    .scriptName('lexalign')
    .usage('$0 <command> [options]\n\nLoRA training of language models on any GPU, and the ALIGN study on top.')
    .strict()
    .demandCommand(1, 'Say which command to run.')
    .recommendCommands()
    .parserConfiguration({ 'duplicate-arguments-array': false })
    .exitProcess(false)
    .version()
    .help()
    .wrap(Math.min(120, process.stdout.columns ?? 100))
    .fail((message, error) => {
      const chosen = commands.find(({ command }) => command.split(' ')[0] === argv[0]);
      throw error ?? new UsageError(explainUsage(message, Object.keys(chosen?.options ?? {})));
    });
  for (const command of commands) {
    program.command({
      command: command.command,
      describe: command.describe,
      builder: (args: Argv) => {
        const name = command.command.split(' ')[0];
        const configFile = findConfig(argv);
        if (configFile !== null && 'config' in command.options) {
          const given = readConfigFile(configFile, name, new Set(Object.keys(command.options)));
          checkTypes(given, command.options);
          args.config(given);
        }
        command.positional?.(args);
        return args.options(command.options as Record<string, Options>);
      },
      handler: async (args) => {
        checkTypes(args, command.options);
        code =
          (command.computes ? await runOnSoftwareDriver(argv, args.device as string | undefined) : null) ??
          (await command.run(args));
      },
    });
  }
  try {
    await program.parseAsync();
    return code;
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`lexalign: ${error.message}`);
      return 2;
    }
    if (error instanceof InputError) {
      console.error(`lexalign: ${error.message}`);
      return 1;
    }
    console.error(error);
    return 1;
  }
}

/** "--json -" as "--json=-": yargs takes a lone dash for an argument of its own. */
function joinDashes(argv: readonly string[]): string[] {
  const joined: string[] = [];
  for (const word of argv) {
    const last = joined.at(-1) ?? '';
    if (word === '-' && /^--[^=]+$/.test(last)) joined[joined.length - 1] = `${last}=-`;
    else joined.push(word);
  }
  return joined;
}

/** The file of --config; yargs would load it itself, but not by our names. */
function findConfig(argv: readonly string[]): string | null {
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--') return null;
    if (argv[i] === '--config') return argv[i + 1] ?? null;
    if (argv[i].startsWith('--config=')) return argv[i].slice('--config='.length);
  }
  return null;
}

/** What yargs lets through, also from a file: numbers that are none, words for switches, an option given twice. */
function checkTypes(args: Readonly<Record<string, unknown>>, options: Readonly<Record<string, Options>>): void {
  for (const [name, { type }] of Object.entries(options)) {
    const value = args[name];
    if (type === 'number' && value !== undefined && (typeof value !== 'number' || !Number.isFinite(value))) {
      throw new UsageError(`--${name} must be one number.`);
    }
    if (type === 'boolean' && value !== undefined && typeof value !== 'boolean')
      throw new UsageError(`--${name} must be true or false.`);
    if (type === 'string' && Array.isArray(value)) throw new UsageError(`--${name} was given more than once.`);
  }
}
