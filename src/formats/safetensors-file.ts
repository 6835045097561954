import { writeFileAtomic } from './files.js';
import { encodeSafetensors, type TensorData } from './safetensors.js';

/**
 * Writes a safetensors file piece by piece and whole or not at all; see encodeSafetensors. Apart from safetensors.ts,
 * which uses no Node API.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorData[],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  await writeFileAtomic(path, encodeSafetensors(tensors, metadata));
}
