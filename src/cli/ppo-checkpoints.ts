import { join } from 'node:path';
import { InputError } from '../errors.js';
import { openFile, resolveInside } from '../formats/files.js';
import { readHeader, readTensor, toFloat32 } from '../formats/safetensors.js';
import { writeSafetensors } from '../formats/safetensors-file.js';
import type { ValueHeadNumbers } from '../model/value-head.js';
import type { PpoSnapshot } from '../train/ppo.js';
import { readTrained, writeTrained } from './checkpoints.js';

const HEAD = 'value_head.safetensors';
const parts = ['', 'first.', 'second.'] as const;

/** Writes the policy into a checkpoint's directory, the critic with its value head into critic/ within. */
export async function writePpoCheckpoint(directory: string, snapshot: PpoSnapshot, base: string): Promise<void> {
  await writeTrained(directory, snapshot.policy, base);
  const critic = join(directory, 'critic');
  await writeTrained(critic, snapshot.critic, base);
  const { numbers, moments } = snapshot.valueHead;
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  await writeSafetensors(
    join(critic, HEAD),
    [numbers, moments.first, moments.second].flatMap((values, i) => {
      const dim = values.length - 1;
      return [
        { name: `${parts[i]}weight`, dtype: 'F32' as const, shape: [1, dim], data: bytes(values.slice(0, dim)) },
        { name: `${parts[i]}bias`, dtype: 'F32' as const, shape: [1], data: bytes(values.slice(dim)) },
      ];
    }),
  );
}

/** Reads what `writePpoCheckpoint` wrote, for a model of these linear layers and hidden size. Throws InputError. */
export async function readPpoCheckpoint(
  directory: string,
  modules: ReadonlyMap<string, { readonly out: number; readonly in: number }>,
  dim: number,
): Promise<PpoSnapshot> {
  const policy = await readTrained(directory, modules);
  const path = join(directory, 'critic');
  const critic = await readTrained(path, modules);
  const source = await openFile(await resolveInside(path, HEAD), join(path, HEAD));
  try {
    const { tensors } = await readHeader(source);
    const read = async (part: string): Promise<ValueHeadNumbers> => {
      const numbers = new Float32Array(dim + 1);
      for (const [name, first, length] of [
        ['weight', 0, dim],
        ['bias', dim, 1],
      ] as const) {
        const info = tensors.get(`${part}${name}`);
        if (info?.dtype !== 'F32' || info.end - info.begin !== 4 * length)
          throw new InputError(`${source.name}: tensor ${part}${name} is missing or not ${length} numbers of F32`);
        numbers.set(toFloat32('F32', await readTensor(source, info)), first);
      }
      return numbers;
    };
    const [numbers, first, second] = [await read(parts[0]), await read(parts[1]), await read(parts[2])];
    return { policy, critic, valueHead: { numbers, moments: { first, second } } };
  } finally {
    await source.close();
  }
}
