import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's directory, from its sources as well as from dist/. */
export const packageRoot = findRoot();

/** The embedded model. */
export const lexiBase = join(packageRoot, 'models', 'lexi-base');

/** Of this package, as package.json has it. */
export function packageVersion(): string {
  return JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).version;
}

function findRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'kernels'))) directory = dirname(directory);
  return directory;
}
