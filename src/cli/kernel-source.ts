import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KernelSource } from '../gpu/kernels.js';
import { packageRoot } from '../paths.js';

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
