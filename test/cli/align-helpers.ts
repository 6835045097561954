import yargs from 'yargs';
import { type AlignArguments, alignOptions } from '../../src/cli/align-recipe.js';
import { readConfigFile } from '../../src/cli/config-file.js';

/** The arguments of `lexalign align --config FILE`. */
export function argumentsOf(file: string, given: object = {}): AlignArguments {
  const values = readConfigFile(file, 'align', alignOptions);
  return yargs([])
    .config({ ...values, ...given, config: file })
    .options(alignOptions)
    .parseSync();
}
