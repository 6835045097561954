import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { KernelSource } from '../gpu/kernels.js';

/** The package's directory, from its sources as well as from dist/. */
export const packageRoot = findRoot();

function findRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'kernels'))) directory = dirname(directory);
  return directory;
}

/** Reads kernel files from the package. */
export function kernelSource(): KernelSource {
  const files = new Map<string, string>();
  return (path) => {
    let text = files.get(path);
    if (text === undefined) {
      text = readFileSync(join(packageRoot, 'kernels', path), 'utf8');
      files.set(path, text);
    }
    return text;
  };
}
