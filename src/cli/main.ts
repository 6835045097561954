import type { ArgumentsCamelCase, Argv, Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { packageVersion } from '../paths.js';
import { checkTypes } from './check-types.js';
import { readConfigFile } from './config-file.js';
import { runOnSoftwareDriver } from './gpu.js';
import { Interrupted } from './interrupt.js';
import { checkApart } from './output-file.js';
import { createParser } from './parser.js';
import { commands } from './registry.js';
import { explainUsage, namedOptions } from './usage.js';

/** A command of the command line: a name, its options, and what runs. */
export interface Command {
  /** As yargs writes it, e.g. "evaluate <measure>". */
  readonly command: string;
  readonly describe: string;
  readonly options: Readonly<Record<string, Options>>;
  /** Its options from a recipe, by its command line; by default those of the top and of the section of its name. */
  readonly readConfig?: (file: string, argv: readonly string[]) => Record<string, unknown>;
  /** Needs a device: is started again on the software driver where there is no GPU. */
  readonly computes: boolean;
  readonly positional?: (args: Argv) => Argv;
  /** Stands below the options in --help. */
  readonly epilogue?: (argv: readonly string[]) => string;
  /** Gives the exit code; `given` are the options that the user named, on the command line or in a file. */
  run(args: ArgumentsCamelCase, given: ReadonlySet<string>): Promise<number>;
}

/** Characters of a message, which may quote a key or name of megabytes. */
const longest = 4000;

/** Runs a command line; gives the exit code: 0 done, 1 a failed run, 2 wrong usage, 130 interrupted. */
export async function main(argv: readonly string[]): Promise<number> {
  let code = 0;
  const fromFile = new Set<string>();
  endOnBrokenPipe();
  const program = createParser(joinDashes(argv))
    .scriptName('lexalign')
    .usage('$0 <command> [options]\n\nLoRA training of language models on any GPU, and the ALIGN study on top.')
    .strict()
    .demandCommand(1, 'Say which command to run.')
    .recommendCommands()
    .version(packageVersion()) // yargs would tell that of the user's own package
    .help()
    .wrap(Math.min(120, process.stdout.columns ?? 100))
    .fail((message, error) => {
      const chosen = commands.find(({ command }) => command.split(' ')[0] === argv[0]);
      throw error ?? new UsageError(explainUsage(message, Object.keys(chosen?.options ?? {}), chosen?.command));
    });
  for (const command of commands) {
    program.command({
      command: command.command,
      describe: command.describe,
      builder: (args: Argv) => {
        const name = command.command.split(' ')[0];
        const configFile = findConfig(argv);
        if (configFile !== null && 'config' in command.options) {
          const given = command.readConfig?.(configFile, argv) ?? readConfigFile(configFile, name, command.options);
          checkTypes(given, command.options);
          args.config(given);
          for (const option of Object.keys(given)) fromFile.add(option);
        }
        command.positional?.(args);
        if (command.epilogue) args.epilogue(command.epilogue(argv));
        return args.options(command.options as Record<string, Options>);
      },
      handler: async (args) => {
        checkTypes(args, command.options);
        checkApart('json', args, command.options);
        const { log } = console;
        if (args.json === '-') console.log = console.error; // standard output is the result's alone
        try {
          code =
            (command.computes ? await runOnSoftwareDriver(argv, args.device as string | undefined) : null) ??
            (await command.run(args, new Set([...fromFile, ...namedOptions(argv, Object.keys(command.options))])));
        } finally {
          console.log = log;
        }
      },
    });
  }
  try {
    await program.parseAsync();
    return code;
  } catch (error) {
    if (error instanceof Interrupted) return 130;
    if (error instanceof UsageError || error instanceof InputError) {
      // One line, whatever the message quotes of a file, and nothing that a terminal obeys.
      const line = error.message.replace(/\s*\n\s*/g, ' ').replace(/[^\P{Cc}\t]/gu, '\ufffd');
      const middle = line.length > longest ? ` […] ${line.slice(-longest / 2)}` : '';
      console.error(`lexalign: ${middle ? line.slice(0, longest / 2) : line}${middle}`);
      return error instanceof UsageError ? 2 : 1;
    }
    console.error(error);
    return 1;
  }
}

/** "--json -", and --json without a file, as "--json=-": yargs takes a lone dash for an argument of its own. */
function joinDashes(argv: readonly string[]): string[] {
  const joined: string[] = [];
  for (const [i, word] of argv.entries()) {
    const last = joined.at(-1) ?? '';
    const next = argv[i + 1] ?? '--';
    if (word === '-' && /^--[^=]+$/.test(last)) joined[joined.length - 1] = `${last}=-`;
    else if (word === '--json' && next !== '-' && next.startsWith('-')) joined.push('--json=-');
    else joined.push(word);
  }
  return joined;
}

/** The file of --config; yargs would load it itself, but not by our names. */
function findConfig(argv: readonly string[]): string | null {
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--') return null;
    // Without a value yargs finds it empty, which checkTypes refuses.
    if (argv[i] === '--config') return argv[i + 1] && !argv[i + 1].startsWith('--') ? argv[i + 1] : null;
    if (argv[i].startsWith('--config=')) return argv[i].slice('--config='.length) || null;
  }
  return null;
}

let watchesPipes = false;
const hangUp = () => {
  process.removeAllListeners('SIGHUP');
  process.kill(process.pid, 'SIGHUP');
};

/**
 * A reader of our output that goes away, as `head` does, ends the process quietly, with the code of SIGPIPE; Windows may
 * call it EOF. A terminal that was closed (EIO) is written to no more, while what runs writes its checkpoint; in the end Node
 * would abort as it resets that terminal, so we go by its signal.
 */
function endOnBrokenPipe(): void {
  if (watchesPipes) return;
  watchesPipes = true;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE' || error.code === 'EOF') process.exit(141);
      if (error.code !== 'EIO') throw error;
      if (!process.listeners('exit').includes(hangUp)) process.once('exit', hangUp);
    });
  }
}
