import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { modelDirectory } from '../../src/cli/hub.js';
import { cachedSnapshot, hubIdOf, parseHubModel } from '../../src/formats/hub-cache.js';
import { loadGolden } from '../golden.js';
import { runCli } from './run.js';
import { lexalign } from './sft-helpers.js';

/** What Windows refuses: to shorten a file by a handle that appends, and on an exFAT disk links. */
const windows = vi.hoisted(() => ({ refuses: false }));
vi.mock(import('node:fs/promises'), async (importOriginal) => {
  const original = await importOriginal();
  const refuse = (code: string) => Promise.reject(Object.assign(new Error(code), { code }));
  return {
    ...original,
    open: async (...args: Parameters<typeof original.open>) => {
      const handle = await original.open(...args);
      if (windows.refuses && args[1] === 'a+') handle.truncate = () => refuse('EPERM');
      return handle;
    },
    symlink: (...args: Parameters<typeof original.symlink>) =>
      windows.refuses ? refuse('EISDIR') : original.symlink(...args),
  };
});

// A hub of our own: the two addresses of Hugging Face's that are asked, over HTTP.
const commit = 'c'.repeat(40);
const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
const index = { weight_map: { a: shards[0], b: shards[1], c: shards[0] } };
const companions = ['LICENSE.txt', 'NOTICE', 'USE_POLICY.md', 'quantize_config.json', 'tokenizer.model'];
const sharded: Record<string, Buffer> = {
  'config.json': Buffer.from('{}'),
  'model.safetensors.index.json': Buffer.from(JSON.stringify(index)),
  [shards[0]]: randomBytes(300_000),
  [shards[1]]: randomBytes(900_000),
  'pytorch_model.bin': randomBytes(10),
  'README.md': Buffer.from('---\nlicense: mit\n---\n'),
  // What a merged or quantised model takes along, and where older writers of GPTQ put their settings.
  ...Object.fromEntries(companions.map((name) => [name, Buffer.from(name)])),
  'tokenization_tiny.py': Buffer.from('code'),
  'tokenizer_tiny.py': Buffer.from('code'),
};
const golden = loadGolden('llama').directory;
const whole = Object.fromEntries(
  readdirSync(join(golden, 'model')).map((name) => [name, readFileSync(join(golden, 'model', name))]),
);
const twins = {
  ...Object.fromEntries(['config.json', ...companions].map((name) => [name, Buffer.from('{}')])),
  'model.safetensors': randomBytes(100),
};
const repositories: Record<string, Record<string, Buffer>> = {
  'tiny/sharded': sharded,
  'tiny/llama': whole,
  'tiny/twins': twins,
};

/** What was asked, as "path range". */
const asked: string[] = [];
/** Changes an answer; true where it gave one itself. */
let meddle: (request: IncomingMessage, response: ServerResponse, file: string) => boolean = () => false;

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? '';
  asked.push(`${url.split('/').at(-1)} ${request.headers.range ?? ''}`.trim());
  const [, listed] = /^\/api\/models\/(\w+\/\w+)\/revision\/main\?blobs=true$/.exec(url) ?? [];
  const [, id, file] = new RegExp(`^/(\\w+/\\w+)/resolve/${commit}/(.+)$`).exec(url) ?? [];
  if (meddle(request, response, file ?? url)) return;
  if (repositories[listed]) {
    const siblings = Object.entries(repositories[listed]).map(([rfilename, bytes]) => {
      const git = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      const large = rfilename.endsWith('.safetensors') ? { lfs: { sha256, size: bytes.length } } : {};
      return { rfilename, size: bytes.length, blobId: git, ...large };
    });
    response.end(
      JSON.stringify({ sha: commit, siblings: [...siblings, null, { rfilename: '../out', size: 1, blobId: 'x' }] }),
    );
  } else if (repositories[id]?.[file]) {
    const bytes = repositories[id][file];
    const [, start] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
    if (start) response.writeHead(206);
    response.end(bytes.subarray(Number(start ?? 0)));
  } else response.writeHead(404).end();
}

const server = createServer(answer);
let directory: string;
beforeAll(() => new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready)));
afterAll(() => new Promise((ended) => server.close(ended)));
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lexalign-hub-'));
  vi.stubEnv('HF_ENDPOINT', `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  vi.stubEnv('HF_HUB_CACHE', directory);
  vi.stubEnv('HF_HOME', join(directory, 'home'));
  for (const name of ['HF_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE']) vi.stubEnv(name, '');
  asked.length = 0;
  meddle = () => false;
  windows.refuses = false;
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});
const repository = (name = 'sharded') => join(directory, `models--tiny--${name}`);
const snapshot = (name?: string) => join(repository(name), 'snapshots', commit);
const fast = { pause: 1 };

describe('a model of the hub', () => {
  it('is fetched into the cache of Hugging Face’s libraries once, with what a run reads and no more', async () => {
    const path = await modelDirectory('tiny/sharded', fast);
    expect(path).toBe(snapshot());
    const names = ['README.md', 'config.json', ...shards, 'model.safetensors.index.json', ...companions];
    expect(readdirSync(path).sort()).toEqual([...names].sort());
    for (const name of names) expect(readFileSync(join(path, name)).equals(sharded[name]), name).toBe(true);
    expect(readFileSync(join(repository(), 'refs/main'), 'utf8')).toBe(commit);
    expect(readdirSync(join(repository(), 'blobs'))).toHaveLength(names.length);
    const before = asked.length;
    expect(await modelDirectory('tiny/sharded', fast)).toBe(path);
    expect(await modelDirectory(`tiny/sharded@${commit}`, fast)).toBe(path);
    expect(asked).toHaveLength(before);
    expect(hubIdOf(path)).toBe('tiny/sharded');
  });

  it('is found in the cache in another spelling of its name, as adapters of unsloth have it', async () => {
    const path = await modelDirectory('tiny/sharded', fast);
    mkdirSync(join(directory, 'models--TINY--sharded'), { recursive: true }); // begun and left
    asked.length = 0;
    for (const name of ['Tiny/Sharded', 'TINY/sharded', `tiny/SHARDED@${commit}`])
      expect(await cachedSnapshot(parseHubModel(name)!)).toBe(path);
    expect(await modelDirectory('Tiny/Sharded', fast)).toBe(path);
    expect(await cachedSnapshot(parseHubModel('tiny/shard')!)).toBe(null);
    expect(asked).toEqual([]);
  });

  it('without its weights, where a plan needs none, is fetched whole later', async () => {
    const path = await modelDirectory('tiny/sharded', { ...fast, weights: false });
    expect(readdirSync(path)).not.toContain(shards[0]);
    expect(existsSync(join(repository(), 'refs'))).toBe(false);
    await modelDirectory('tiny/sharded', fast);
    expect(readFileSync(join(path, shards[1])).equals(sharded[shards[1]])).toBe(true);
  });

  it('goes on where a connection broke, and where an earlier command did', async () => {
    let breaks = 3;
    meddle = ({ headers }, response, file) => {
      if (file !== shards[1] || breaks-- <= 0) return false;
      const start = Number(/\d+/.exec(headers.range ?? '0')![0]);
      response.writeHead(start > 0 ? 206 : 200, { 'content-length': sharded[file].length - start });
      response.write(sharded[file].subarray(start, start + 100_000), () => response.destroy());
      return true;
    };
    const path = await modelDirectory('tiny/sharded', fast);
    expect(readFileSync(join(path, shards[1])).equals(sharded[shards[1]])).toBe(true);
    const ranges = asked.filter((line) => line.startsWith(shards[1]) && line.includes('bytes='));
    expect(ranges).toHaveLength(3);

    rmSync(repository(), { recursive: true });
    meddle = (_, response, file) => {
      if (file !== shards[1]) return false;
      response.destroy();
      return true;
    };
    await expect(modelDirectory('tiny/sharded', fast)).rejects.toThrow(
      /00002\.safetensors could not be fetched to its end: .*What came is kept/,
    );
    const digest = createHash('sha256').update(sharded[shards[1]]).digest('hex');
    writeFileSync(join(repository(), 'blobs', `${digest}.incomplete`), sharded[shards[1]].subarray(0, 500_000));
    meddle = () => false;
    asked.length = 0;
    await modelDirectory('tiny/sharded', fast);
    expect(asked.filter((line) => line.includes('safetensors '))).toEqual([`${shards[1]} bytes=500000-`]);
    expect(readFileSync(join(path, shards[1])).equals(sharded[shards[1]])).toBe(true);
  });

  it('that comes damaged is refused and not kept', async () => {
    meddle = (_, response, file) => {
      if (file !== shards[0]) return false;
      response.end(randomBytes(sharded[file].length));
      return true;
    };
    await expect(modelDirectory('tiny/sharded', fast)).rejects.toThrow(/00001-of-00002\.safetensors came damaged/);
    expect(existsSync(join(snapshot(), shards[0]))).toBe(false);
    meddle = () => false;
    await modelDirectory('tiny/sharded', fast);
  });

  it('is fetched where files of a snapshot can be no links, as on Windows, and again after damage', async () => {
    windows.refuses = true;
    meddle = (_, response, file) => {
      if (file !== shards[0]) return false;
      response.end(randomBytes(sharded[file].length));
      return true;
    };
    await expect(modelDirectory('tiny/sharded', fast)).rejects.toThrow(/00001-of-00002\.safetensors came damaged/);
    meddle = () => false;
    const path = await modelDirectory('tiny/sharded', fast);
    for (const name of shards) {
      expect(lstatSync(join(path, name)).isFile(), name).toBe(true);
      expect(readFileSync(join(path, name)).equals(sharded[name]), name).toBe(true);
    }
    const held = await modelDirectory('tiny/twins', fast);
    for (const name of companions) expect(readFileSync(join(held, name), 'utf8'), name).toBe('{}');
    expect(await cachedSnapshot(parseHubModel('tiny/sharded')!)).toBe(path);
  });

  it('is given up where no connection gets further than those before', async () => {
    meddle = (_, response, file) => {
      if (file !== shards[1]) return false; // always from the beginning, and never to the end
      response.writeHead(200, { 'content-length': sharded[file].length });
      response.write(sharded[file].subarray(0, 100_000), () => response.destroy());
      return true;
    };
    await expect(modelDirectory('tiny/sharded', fast)).rejects.toThrow(/00002\.safetensors could not be fetched/);
    expect(asked.filter((line) => line.startsWith(shards[1])).length).toBeLessThan(15);
  });

  it('may hold the same content under several names', async () => {
    const path = await modelDirectory('tiny/twins', fast);
    for (const name of companions) expect(readFileSync(join(path, name), 'utf8'), name).toBe('{}');
    expect(readdirSync(join(repository('twins'), 'blobs'))).toHaveLength(2);
  });

  it('is fetched by one process at a time', async () => {
    const both = await Promise.allSettled([0, 1].map(() => modelDirectory('tiny/sharded', fast)));
    const refused = both.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []));
    expect(refused).toEqual([expect.stringMatching(/Process \d+ is writing into .*models--tiny--sharded: let it end/)]);
    expect(readFileSync(join(snapshot(), shards[1])).equals(sharded[shards[1]])).toBe(true);
    expect(readdirSync(repository()).sort()).toEqual(['blobs', 'refs', 'snapshots']);
  });

  it('is asked for with a token, and what is hidden is refused with the mend', async () => {
    vi.stubEnv('HF_HOME', directory);
    writeFileSync(join(directory, 'token'), 'hf_secret\n');
    const tokens = new Set<string | undefined>();
    meddle = ({ headers }) => {
      tokens.add(headers.authorization);
      return false;
    };
    await modelDirectory('tiny/sharded', fast);
    expect([...tokens]).toEqual(['Bearer hf_secret']);
    await expect(modelDirectory('tiny/none', fast)).rejects.toThrow(
      /tiny\/none is no directory here, and no model that .* shows you \(404, revision main\): .*HF_TOKEN/,
    );
  });

  it('cannot be had offline, nor from a hub that is not there', async () => {
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await expect(modelDirectory('tiny/sharded', fast)).rejects.toThrow(/HF_HUB_OFFLINE keeps from fetching it/);
    expect(asked).toEqual([]);
    vi.stubEnv('HF_HUB_OFFLINE', '');
    const closed = createServer();
    await new Promise<void>((ready) => closed.listen(0, '127.0.0.1', ready));
    const { port } = closed.address() as AddressInfo;
    await new Promise((ended) => closed.close(ended));
    vi.stubEnv('HF_ENDPOINT', `http://127.0.0.1:${port}`);
    await expect(modelDirectory('tiny/sharded', fast)).rejects.toThrow(/could not be reached for it: ECONNREFUSED/);
  });

  it('gives way to a directory of that name, and other names are not looked up', async () => {
    expect(parseHubModel('models/lexi-base')).not.toBe(null);
    expect(await modelDirectory('models/lexi-base')).toBe('models/lexi-base');
    expect(asked).toEqual([]);
    for (const name of ['nowhere', './tiny/x', '/tiny/x', 'a/b/c', '../b', 'a/..'])
      expect([name, parseHubModel(name)]).toEqual([name, null]);
    expect(parseHubModel('Qwen/Qwen2.5-7B-Instruct@refs/pr/1')).toEqual({
      id: 'Qwen/Qwen2.5-7B-Instruct',
      revision: 'refs/pr/1',
    });
  });

  it('serves commands by its name', async () => {
    const prompt = ['--prompt-ids', '5,6,7', '--max-new-tokens', '4', '--temperature', '0'];
    const named = await lexalign('generate', '--model', 'tiny/llama', ...prompt);
    const local = await lexalign('generate', '--model', join(golden, 'model'), ...prompt);
    expect(named.code, named.stderr).toBe(0);
    expect(named.stdout).toBe(local.stdout);
    asked.length = 0;
    const data = ['--data', join(directory, 'none.jsonl'), '--output', join(directory, 'run')];
    for (const command of ['sft', 'ppo'])
      expect((await lexalign(command, '--model', 'tiny/sharded', ...data)).stderr).toMatch(/--data .* does not exist/);
    expect(asked).toEqual([]);
    const plan = await lexalign('plan', '--model', 'tiny/sharded', '--max-length', '8');
    expect([plan.code, asked.some((line) => line.startsWith(shards[0]))]).toEqual([1, false]); // its config.json is {}
  });

  it('is an adapter’s base: its weights are fetched for a merge alone', async () => {
    const adapter = join(golden, 'adapter');
    const weights = () => asked.some((line) => line.startsWith(shards[0]));
    const checked = await lexalign('check-adapter', adapter, '--model', 'tiny/llama');
    expect([checked.code, weights()], checked.stderr).toEqual([0, false]);
    expect(checked.stdout).toContain('every tensor fits');
    const base = ['--adapter', adapter, '--model', 'tiny/llama'];
    const [file, merged] = [join(directory, 'a.gguf'), join(directory, 'merged')];
    const exported = await lexalign('export', ...base, '--format', 'gguf', '--output', file);
    expect([exported.code, weights()], exported.stderr).toEqual([0, false]);
    const model = await runCli('export', ...base, '--format', 'merged', '--output', merged);
    expect([model.code, weights()], model.stderr).toEqual([0, true]);
  });
});
