import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { torchTimes } from '../../bench/peer-torch.js';
import { withPeer } from '../../bench/rows.js';
import { root } from '../cli/run.js';

const shapes = { matmul: [[512, 256, 128]], attention: [] };

/** Something that stands in for Python. */
function stub(script: string): string {
  const file = join(mkdtempSync(join(tmpdir(), 'lexalign-python-')), 'python');
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

it('gives what Python measured, from the shapes it was told', async () => {
  const python = stub(
    `[ -f "$1" ] && grep -q '"matmul":\\[\\[512,256,128\\]\\]' && echo '{"name":"t","matmul":[0.5],"attention":[]}'`,
  );
  expect(await torchTimes(root, shapes, python)).toEqual({ name: 't', matmul: [0.5], attention: [] });
});

it('says in one sentence what is missing', async () => {
  await expect(
    torchTimes(root, shapes, stub('echo "ModuleNotFoundError: No module named torch" >&2; exit 1')),
  ).rejects.toThrow(
    '--peer torch needs python3 with torch and a CUDA device: ModuleNotFoundError: No module named torch.',
  );
  await expect(torchTimes(root, shapes, '/no/python')).rejects.toThrow(/no \/no\/python/);
});

it('sets a row beside the peer: the ratio is of speeds', () => {
  const row = {
    ...{
      operation: 'matmul',
      shape: '512x256x128',
      tier: 'tensor',
      variant: 'nt',
      median_ms: 2,
      spread: 0,
      gflops: 10,
    },
    ...{ gbps: 1, share: null, peer: null, peer_gflops: null, ratio: null },
  };
  expect(withPeer(row, 't', new Map([['matmul 512x256x128', 0.5]]))).toMatchObject({
    peer: 't',
    peer_gflops: 40,
    ratio: 0.25,
  });
  expect(withPeer(row, 't', new Map())).toEqual(row);
});
