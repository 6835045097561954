import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { explainTier, loadModel, openDevice, openModel } from '../../src/cli/session.js';
import type { CheckpointTensor } from '../../src/formats/stored-tensors.js';
import { loadGolden } from '../golden.js';
import { makeTokenizer } from '../text/shared.js';

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

it('says once where the system text goes when the chat template takes no system turn', async () => {
  const said: string[] = [];
  vi.spyOn(console, 'error').mockImplementation((line: string) => said.push(line));
  const open = async (config: Record<string, unknown>) => {
    const directory = await makeTokenizer({ config });
    await cp(join(loadGolden('llama').directory, 'model'), directory, { recursive: true });
    const { checkpoint } = await openModel({ model: directory });
    await checkpoint.close();
    return directory;
  };
  await open({});
  expect(said).toEqual([]);
  const users = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}";
  const directory = await open({ chat_template: users });
  expect(said).toEqual([
    `The chat template of ${directory} takes no system turn: its text is put before the first question.`,
  ]);
});

it('says why a slower tier runs, and on Windows that Vulkan may have a faster one', () => {
  const features = { cpu: false, f16: true, timestamps: true, subgroups: true };
  const told = (platform: string, env = {}, f16 = true) =>
    explainTier({ features: { ...features, f16 } }, 'f16', { platform, env } as NodeJS.Process);
  expect(told('linux')).toMatch(/no matrix units that Vulkan reaches, .* a newer driver may have them\.$/);
  expect(told('win32')).toMatch(/that Direct3D 12 reaches, .*and so may Vulkan \(set DAWNNODE_BACKEND=vulkan\)\.$/);
  expect(told('win32', { DAWNNODE_BACKEND: 'Vulkan' })).toMatch(/that Vulkan reaches, .* may have them\.$/);
  expect(told('win32', {}, false)).toMatch(/no 16-bit floats/);
});
