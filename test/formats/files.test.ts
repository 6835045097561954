import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { InputError } from '../../src/errors.js';
import { openFile, readFileInside, readJsonInside, resolveInside, writeFileAtomic } from '../../src/formats/files.js';
import { temporaryDirectory } from './helpers.js';

test('reads at positions, and refuses what lies past the end', async () => {
  const path = join(await temporaryDirectory(), 'ten');
  const bytes = Uint8Array.from({ length: 10 }, (_, i) => i);
  await writeFile(path, bytes);
  const source = await openFile(path);
  expect(source.size).toBe(10);
  const into = new Uint8Array(4);
  await source.read(6, into);
  expect([...into]).toEqual([6, 7, 8, 9]);
  await expect(source.read(7, into)).rejects.toThrow(/ten is truncated: bytes 7 to 11 wanted, it ends at 10/);
  await source.close();
});

test('a file that shrinks while it is open is refused, not waited for', async () => {
  const path = join(await temporaryDirectory(), 'shrinks');
  await writeFile(path, new Uint8Array(100));
  const source = await openFile(path);
  await truncate(path, 50);
  await expect(source.read(40, new Uint8Array(20))).rejects.toThrow(InputError);
  await source.close();
});

test('what is missing or no file is refused by name', async () => {
  const dir = await temporaryDirectory();
  await expect(openFile(join(dir, 'none'))).rejects.toThrow(/none does not exist/);
  await expect(openFile(dir)).rejects.toThrow(/is not a file/);
});

test('writes strings, bytes and pieces', async () => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'out');
  async function* pieces() {
    yield Uint8Array.of(104, 97);
    yield Uint8Array.of(108, 102);
  }
  for (const data of ['half', new TextEncoder().encode('half'), pieces()]) {
    await writeFileAtomic(path, data);
    expect(await readFile(path, 'utf8')).toBe('half');
  }
  expect(await readdir(dir)).toEqual(['out']);
});

test('a failed write leaves the old file and nothing else', async () => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'out');
  await writeFileAtomic(path, 'old');
  async function* breaks() {
    yield Uint8Array.of(1);
    throw new Error('device lost');
  }
  await expect(writeFileAtomic(path, breaks())).rejects.toThrow('device lost');
  expect(await readFile(path, 'utf8')).toBe('old');
  await mkdir(join(dir, 'taken'));
  await expect(writeFileAtomic(join(dir, 'taken'), 'new')).rejects.toThrow(/taken is a directory/);
  await expect(writeFileAtomic(join(dir, 'none', 'out'), 'new')).rejects.toThrow(/none\/out does not exist/);
  expect((await readdir(dir)).sort()).toEqual(['out', 'taken']);
});

test('names and links must stay inside the directory', async () => {
  const dir = await temporaryDirectory();
  const model = join(dir, 'model');
  await mkdir(join(model, 'sub'), { recursive: true });
  await writeFile(join(dir, 'secret'), 'x');
  await writeFile(join(model, 'sub', 'inside'), 'x');
  await symlink('../secret', join(model, 'link'));
  await symlink('sub/inside', join(model, 'good'));
  await symlink('..', join(model, 'up'));
  // A sibling whose name starts with the directory's.
  await mkdir(join(dir, 'model-2'));
  await writeFile(join(dir, 'model-2', 'file'), 'x');
  await symlink('../model-2/file', join(model, 'sibling'));
  expect(await resolveInside(model, 'good')).toMatch(/model\/sub\/inside$/);
  expect(await resolveInside(model, 'sub/inside')).toMatch(/model\/sub\/inside$/);
  for (const name of ['../secret', 'sub/../../secret', '/etc/passwd', 'C:x', 'a\\b', 'a\0', '', 'link', 'sibling', '.'])
    await expect(resolveInside(model, name), name).rejects.toThrow(/leads outside the directory/);
  await expect(resolveInside(model, 'up/secret')).rejects.toThrow(/leads outside/);
  await expect(resolveInside(model, 'none')).rejects.toThrow(/none does not exist/);
});

test("a hub cache's snapshot may link into the blobs of its repository, and nowhere else", async () => {
  const cache = await temporaryDirectory();
  const repository = join(cache, 'models--a--b');
  const snapshot = join(repository, 'snapshots', 'abc');
  await mkdir(snapshot, { recursive: true });
  await mkdir(join(repository, 'blobs'));
  await mkdir(join(cache, 'models--c--d', 'blobs'), { recursive: true });
  await writeFile(join(repository, 'blobs', '123'), '{"a":1}');
  await writeFile(join(repository, 'refs'), 'x');
  await writeFile(join(cache, 'models--c--d', 'blobs', '456'), 'x');
  await symlink('../../blobs/123', join(snapshot, 'config.json'));
  await symlink('../../refs', join(snapshot, 'refs'));
  await symlink('../../../models--c--d/blobs/456', join(snapshot, 'other'));
  expect((await readJsonInside(snapshot, 'config.json', 100)).value).toEqual({ a: 1 });
  await expect(resolveInside(snapshot, 'refs')).rejects.toThrow(/leads outside/);
  await expect(resolveInside(snapshot, 'other')).rejects.toThrow(/leads outside/);
});

test('a file is read whole up to its limit, whatever size it claims, and a pipe is not waited for', async () => {
  const dir = await temporaryDirectory();
  await writeFile(join(dir, 'eight'), '12345678');
  expect((await readFileInside(dir, 'eight', 8)).toString()).toBe('12345678');
  await expect(readFileInside(dir, 'eight', 7)).rejects.toThrow(/eight has more than the 7 bytes/);
  await writeFile(join(dir, 'empty'), '');
  expect((await readFileInside(dir, 'empty', 8)).length).toBe(0);
  execFileSync('mkfifo', [join(dir, 'pipe')]);
  for (const name of ['pipe', 'folder']) {
    if (name === 'folder') await mkdir(join(dir, name));
    await expect(readFileInside(dir, name, 8)).rejects.toThrow(new RegExp(`${name} is not a file`));
  }
});

test.skipIf(process.platform !== 'linux')('a file that claims to be empty is bounded too', async () => {
  await expect(readFileInside('/proc/self', 'status', 8)).rejects.toThrow(/status has more than the 8 bytes/);
});

test('JSON over its limit or that is none is refused', async () => {
  const dir = await temporaryDirectory();
  await writeFile(join(dir, 'a.json'), '{"a": [1, 2, 3]}');
  await expect(readJsonInside(dir, 'a.json', 8)).rejects.toThrow(/a\.json has more than the 8 bytes a a\.json may/);
  await writeFile(join(dir, 'b.json'), '{"a": ');
  await expect(readJsonInside(dir, 'b.json', 100)).rejects.toThrow(/b\.json is not JSON/);
});
