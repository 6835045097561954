import { createHash } from 'node:crypto';
import type { Checkpoint } from './checkpoint.js';

/** Bytes read at either end of a tensor. */
const sample = 4096;

/**
 * What tells one checkpoint from another without reading gigabytes: SHA-256 (hex) over its configuration and over
 * name, type, shape, the first and the last 4 KiB of every tensor, in order of name.
 */
export async function fingerprint(checkpoint: Checkpoint<unknown, unknown>): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(checkpoint.config));
  for (const [name, tensor] of [...checkpoint.tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(JSON.stringify([name, tensor.dtype, tensor.shape]));
    const bytes = new Uint8Array(Math.min(sample, tensor.end - tensor.begin));
    for (const begin of [tensor.begin, tensor.end - bytes.length]) {
      await tensor.source.read(begin, bytes);
      hash.update(bytes);
    }
  }
  return hash.digest('hex');
}
