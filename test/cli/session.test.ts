import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { loadModel, openDevice, openModel } from '../../src/cli/session.js';
import type { CheckpointTensor } from '../../src/formats/checkpoint.js';
import { loadGolden } from '../golden.js';

afterEach(() => vi.restoreAllMocks());

it('a load of more than a second says how far it is, and how fast it was', async () => {
  const model = await openModel({ model: join(loadGolden('llama').directory, 'model') });
  const late = ({ source, ...tensor }: CheckpointTensor): CheckpointTensor => ({
    ...tensor,
    source: {
      ...source,
      async read(position, into) {
        await delay(1100);
        await source.read(position, into);
      },
    },
  });
  const tensors = new Map([...model.checkpoint.tensors].map(([name, tensor]) => [name, late(tensor)]));
  const open = await openDevice({ device: 'cpu', tier: 'f32' });
  const said: string[] = [];
  vi.spyOn(console, 'error').mockImplementation((line: string) => said.push(line));
  await loadModel(open, { ...model, checkpoint: { ...model.checkpoint, tensors } }, 64);
  await open.close();
  expect(said[0]).toMatch(/^loading: [\d.]+ KiB of weights in [\d.]+ s, [\d.]+ GB\/s$/);
  expect(said.at(-1)).toMatch(/^Loaded [\d.]+ KiB of weights in [\d.]+ s, [\d.]+ GB\/s\.$/);
});
