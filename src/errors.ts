/** Wrong input or a run that cannot go on: one sentence that names file, key and mend. The command line exits 1. */
export class InputError extends Error {
  override name = 'InputError';
}

/** Wrong use of the command line: unknown option, missing argument. The command line exits 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}
