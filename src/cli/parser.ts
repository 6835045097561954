import { createRequire } from 'node:module';
import type { Argv } from 'yargs';

/** The CommonJS build: the other one breaks the lines of --help within words. */
const yargs: (argv: readonly string[]) => Argv = createRequire(import.meta.url)('yargs');

/** A parser of command lines that speaks English on every system, as `explainUsage` reads it, and ends no process. */
export const createParser = (argv: readonly string[]): Argv => yargs(argv).locale('en').exitProcess(false);
