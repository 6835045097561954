// Fetches a model from Hugging Face's hub into the cache that its libraries share.
// https://huggingface.co/docs/hub/api, https://huggingface.co/docs/huggingface_hub/guides/manage-cache

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, open, readFile, rm, stat, statfs, symlink, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../errors.js';
import { weightFiles } from '../formats/checkpoint.js';
import { isCompanion } from '../formats/companions.js';
import { explainFileError, hasFile, makeDirectory, move, writeFileAtomic } from '../formats/files.js';
import { COMMIT, cachedSnapshot, type HubModel, hubHome, hubRepository, parseHubModel } from '../formats/hub-cache.js';
import { isRecord } from '../formats/keys.js';
import { GPTQ_SETTINGS } from '../formats/quantised.js';
import { formatBytes } from './memory.js';
import { createProgress } from './progress.js';
import { lockDirectory } from './writer-lock.js';

/** What is fetched beside the weights and their companions; README.md says the licence. */
const SMALL_FILES = ['config.json', 'model.safetensors.index.json', 'README.md', GPTQ_SETTINGS];
/** Files that are fetched at a time. */
const STREAMS = 4;
/** A connection that gives nothing for so long is given up and opened anew, ms. */
const SILENCE = 60_000;
/** Connections in a row that may fail without getting further. */
const TRIES = 5;

/** A file of a repository, as the hub lists it. */
interface HubFile {
  readonly name: string;
  readonly size: number;
  /** Of the content: SHA-256 of a large file, git's SHA-1 of any other. It names the blob in the cache. */
  readonly digest: string;
}

/** Where a model is fetched from; tests shorten the waiting. */
export interface HubOptions {
  /** Whether its weights are wanted, or only what says what they are. */
  readonly weights?: boolean;
  /** Wait before a connection is tried again, ms; doubles. */
  readonly pause?: number;
}

/**
 * The directory that `--model` names: a directory here, or a model of the hub (ORG/NAME, ORG/NAME@REVISION), which is fetched
 * if the cache does not hold it. A name that is neither is given back, for whoever opens it to refuse.
 */
export async function modelDirectory(name: string, options: HubOptions = {}): Promise<string> {
  const model = (await stat(name).catch(() => null)) ? null : parseHubModel(name);
  return model ? ((await cachedSnapshot(model)) ?? fetchModel(model, options)) : name;
}

/**
 * Fetches a model of the hub ($HF_ENDPOINT) into its cache and returns the snapshot. What came of an interrupted fetch is kept
 * and gone on with. Each file's digest is checked. Throws InputError.
 */
async function fetchModel(model: HubModel, { weights = true, pause = 1000 }: HubOptions): Promise<string> {
  const { HF_HUB_OFFLINE = '' } = process.env;
  if (/^(1|on|yes|true)$/i.test(HF_HUB_OFFLINE))
    throw new InputError(
      `${model.id} is no directory here, nor whole in the hub's cache, and HF_HUB_OFFLINE keeps from fetching it.`,
    );
  const hub = new Hub(model, await accessToken());
  const repository = hubRepository(model);
  const { commit, files } = await hub.list();
  const snapshot = join(repository, 'snapshots', commit);
  const get = async (names: readonly string[]) => {
    const wanted = [];
    for (const name of names) {
      const file = files.get(name);
      if (!file) throw new InputError(`${model.id} on the hub lacks ${name}, which its index names.`);
      if (!(await hasFile(snapshot, name))) wanted.push(file);
    }
    await fetchFiles(hub, commit, wanted, repository, pause);
  };
  await get([...files.keys()].filter((name) => SMALL_FILES.includes(name) || isCompanion(name)));
  if (!files.has('config.json')) throw new InputError(`${model.id} on the hub is no model: it has no config.json.`);
  if (!weights) return snapshot;
  const held = files.has('model.safetensors') ? ['model.safetensors'] : await weightFiles(snapshot);
  if (!held) throw new InputError(`${model.id} on the hub has no safetensors weights, which alone are read.`);
  await get(held);
  if (!COMMIT.test(model.revision)) {
    const ref = join(repository, 'refs', model.revision);
    await makeDirectory(dirname(ref));
    await writeFileAtomic(ref, commit);
  }
  return snapshot;
}

/** The hub's side of one model. */
class Hub {
  readonly #model: HubModel;
  readonly #token: string | null;
  readonly #endpoint = (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');

  constructor(model: HubModel, token: string | null) {
    this.#model = model;
    this.#token = token;
  }

  /** All files of the revision, and its commit. */
  async list(): Promise<{ commit: string; files: ReadonlyMap<string, HubFile> }> {
    const { id, revision } = this.#model;
    const url = `${this.#endpoint}/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`;
    const response = await this.get(url).catch((error) => {
      if (error instanceof InputError) throw error;
      throw new InputError(
        `${id} is no directory here, and ${this.#endpoint} could not be reached for it: ${reasonOf(error)}.`,
      );
    });
    const { sha, siblings } = ((await response.json().catch(() => null)) ?? {}) as Record<string, unknown>;
    if (typeof sha !== 'string' || !COMMIT.test(sha) || !Array.isArray(siblings))
      throw new InputError(`${url} gave no list of files: is $HF_ENDPOINT a hub?`);
    const files = new Map<string, HubFile>();
    for (const { rfilename: name, size, blobId, lfs } of siblings.filter(isRecord)) {
      const digest = isRecord(lfs) ? lfs.sha256 : blobId;
      // Names and digests become paths: nothing that leads elsewhere, no folders.
      if (typeof name !== 'string' || !/^[\w-][\w.-]*$/.test(name)) continue;
      if (typeof digest !== 'string' || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(digest)) continue;
      if (typeof size === 'number' && Number.isSafeInteger(size) && size >= 0) files.set(name, { name, size, digest });
    }
    return { commit: sha, files };
  }

  /** The bytes of a file from `start` on, or all of them where the server gives no part. */
  async read(commit: string, name: string, start: number, signal: AbortSignal): Promise<Response> {
    const range: Record<string, string> = start > 0 ? { Range: `bytes=${start}-` } : {};
    return this.get(`${this.#endpoint}/${this.#model.id}/resolve/${commit}/${name}`, range, signal);
  }

  /** Throws InputError where the hub refuses, and fetch's own error where it is not reached. */
  private async get(url: string, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> {
    const allowed = this.#token === null ? headers : { ...headers, Authorization: `Bearer ${this.#token}` };
    const response = await fetch(url, { headers: allowed, signal });
    if (response.ok) return response;
    await response.body?.cancel();
    const { id, revision } = this.#model;
    if ([401, 403, 404].includes(response.status))
      throw new InputError(
        `${id} is no directory here, and no model that ${this.#endpoint} shows you (${response.status}, revision ${revision}): check the name; of a gated model accept the terms on its page and set HF_TOKEN.`,
      );
    throw new Error(`it answered ${response.status}`);
  }
}

/** HF_TOKEN, or what `hf auth login` left. */
async function accessToken(): Promise<string | null> {
  const { HF_TOKEN, HF_TOKEN_PATH } = process.env;
  if (HF_TOKEN) return HF_TOKEN.trim();
  const stored = await readFile(HF_TOKEN_PATH || join(hubHome(), 'token'), 'utf8').catch(() => '');
  return stored.trim() || null;
}

function reasonOf({ cause, message }: Error): string {
  const { code, message: inner } = (cause ?? {}) as { code?: string; message?: string };
  return code ?? inner ?? message;
}

/**
 * Fetches files into the cache's blobs, several at a time, and links them into the snapshot. Throws InputError where another
 * process is at it: both would append to the same blobs.
 */
async function fetchFiles(
  hub: Hub,
  commit: string,
  files: readonly HubFile[],
  repository: string,
  pause: number,
): Promise<void> {
  if (files.length === 0) return;
  await makeDirectory(repository);
  const unlock = await lockDirectory(repository);
  try {
    await fetchLocked(hub, commit, files, repository, pause);
  } finally {
    await unlock();
  }
}

async function fetchLocked(
  hub: Hub,
  commit: string,
  files: readonly HubFile[],
  repository: string,
  pause: number,
): Promise<void> {
  const snapshot = join(repository, 'snapshots', commit);
  for (const directory of [join(repository, 'blobs'), snapshot]) await makeDirectory(directory);
  // Files of the same content are one blob.
  const blobs = new Map(files.map((file) => [file.digest, file]));
  const total = [...blobs.values()].reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const digest of blobs.keys()) done += await sizeOf(join(repository, 'blobs', `${digest}.incomplete`));
  const { bavail, bsize } = await statfs(repository);
  if (total - done > bavail * bsize)
    throw new InputError(
      `${repository} has ${formatBytes(bavail * bsize)} left, and the files to be fetched take ${formatBytes(total - done)}: make room, or set HF_HUB_CACHE to a larger disk.`,
    );
  const bar = createProgress();
  const start = performance.now();
  let came = 0;
  const told = (bytes: number) => {
    came += Math.max(0, bytes);
    done += bytes;
    const rate = came / ((performance.now() - start) / 1000);
    bar.update(done / total, `fetching ${formatBytes(total)}: ${formatBytes(done)}, ${formatBytes(rate)}/s`);
  };
  const queue = [...blobs.values()];
  const failure = new AbortController();
  const fetching: Fetching = { hub, commit, pause, stop: failure.signal, told: total > 1e6 ? told : () => {} };
  const take = async () => {
    for (let file = queue.shift(); file && !failure.signal.aborted; file = queue.shift()) {
      const blob = join(repository, 'blobs', file.digest);
      if ((await sizeOf(blob)) !== file.size) await fetchBlob(fetching, file, blob);
      const names = files.filter(({ digest }) => digest === file.digest).map(({ name }) => name);
      for (const name of names) await link(blob, join(snapshot, name), name === names.at(-1));
    }
  };
  const stop = (error: Error) => {
    if (!failure.signal.aborted) failure.abort(error);
  };
  await Promise.all(Array.from({ length: STREAMS }, () => take().catch(stop)));
  bar.end();
  failure.signal.throwIfAborted();
}

interface Fetching {
  readonly hub: Hub;
  readonly commit: string;
  readonly pause: number;
  /** Another file failed. */
  readonly stop: AbortSignal;
  /** Counts bytes, off again where they are thrown away. */
  readonly told: (bytes: number) => void;
}

const sizeOf = async (path: string) => (await stat(path).catch(() => null))?.size ?? 0;

/** Fetches one file, from where an earlier fetch stopped; it appears under its name once its digest is the hub's. */
async function fetchBlob(
  { hub, commit, pause, stop, told }: Fetching,
  { name, size, digest }: HubFile,
  blob: string,
): Promise<void> {
  const partial = `${blob}.incomplete`;
  const fail = (error: NodeJS.ErrnoException): never => explainFileError(partial, error);
  const handle = await open(partial, 'a+').catch(fail);
  try {
    let have = await sizeOf(partial);
    let hash = newHash(digest, size);
    for await (const chunk of have > 0 ? createReadStream(partial) : []) hash.update(chunk as Buffer);
    const startAgain = async () => {
      await truncate(partial).catch(fail); // not by the handle: Windows refuses that of one that appends
      told(-have);
      have = 0;
      hash = newHash(digest, size);
    };
    if (have > size) await startAgain();
    let farthest = have;
    for (let failed = 0; have < size; ) {
      const connection = new AbortController();
      const listen = () => setTimeout(() => connection.abort(new Error('it fell silent')), SILENCE);
      const leave = () => connection.abort(stop.reason);
      stop.addEventListener('abort', leave);
      let timer = listen();
      try {
        stop.throwIfAborted();
        const response = await hub.read(commit, name, have, connection.signal);
        if (have > 0 && response.status !== 206) await startAgain();
        for await (const chunk of response.body ?? []) {
          clearTimeout(timer);
          await handle.appendFile(chunk).catch(fail);
          stop.throwIfAborted(); // a body that is aborted meanwhile may never give its next chunk
          hash.update(chunk);
          have += chunk.length;
          told(chunk.length);
          if (have > farthest) failed = 0;
          farthest = Math.max(farthest, have);
          if (have > size) break;
          timer = listen();
        }
        if (have < size) throw new Error('it ended early');
      } catch (error) {
        if (error instanceof InputError || stop.aborted) throw error;
        if (++failed === TRIES)
          throw new InputError(
            `${name} could not be fetched to its end: ${reasonOf(error as Error)}. What came is kept: the same command goes on from there.`,
          );
        await new Promise((resolve) => setTimeout(resolve, pause * 2 ** (failed - 1)));
      } finally {
        clearTimeout(timer);
        stop.removeEventListener('abort', leave);
      }
    }
    if (have !== size || hash.digest('hex') !== digest) {
      await startAgain();
      throw new InputError(
        `${name} came damaged (its digest is not the hub's) and was removed: run the command again.`,
      );
    }
    await handle.sync().catch(fail);
  } finally {
    await handle.close();
  }
  await move(partial, blob).catch(fail);
}

/** SHA-256 of the content, or git's SHA-1 of it as a blob. */
function newHash(digest: string, size: number): Hash {
  return digest.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Puts a blob into a snapshot: by a relative link, or the file itself where links are not allowed (Windows) or not known (exFAT). */
async function link(blob: string, file: string, last: boolean): Promise<void> {
  await rm(file, { force: true });
  await symlink(join('..', '..', 'blobs', basename(blob)), file).catch(() =>
    (last ? move : copyFile)(blob, file).catch((error) => explainFileError(file, error)),
  );
}
