import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve, sep } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { InputError } from '../errors.js';
import type { ByteSource } from './bytes.js';
import { parseJson } from './json.js';

/** The most that one read or write system call takes. */
const MAX_TRANSFER = 2 ** 31 - 1;

/** A parsed JSON file with its path for error messages. */
export interface JsonFile {
  readonly path: string;
  readonly value: unknown;
}

/**
 * Opens a regular file for positional reads; messages call it `name`. Throws InputError when it is missing, unreadable
 * or not a file.
 */
export async function openFile(path: string, name = path): Promise<ByteSource> {
  // stat first: opening a named pipe would wait for a writer.
  const info = await stat(path).catch((error) => explainFileError(name, error));
  if (!info.isFile()) throw new InputError(`${name} is not a file`);
  const handle = await open(path, 'r').catch((error) => explainFileError(name, error));
  return {
    name,
    size: info.size,
    async read(position, into) {
      if (position + into.length > info.size) throw truncated(name, position, into.length, info.size);
      for (let done = 0; done < into.length; ) {
        const length = Math.min(into.length - done, MAX_TRANSFER);
        const { bytesRead } = await handle
          .read(into, done, length, position + done)
          .catch((error) => explainFileError(name, error));
        if (bytesRead === 0) throw truncated(name, position, into.length, position + done);
        done += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}

function truncated(name: string, position: number, length: number, size: number): InputError {
  return new InputError(`${name} is truncated: bytes ${position} to ${position + length} wanted, it ends at ${size}`);
}

/**
 * Writes a file that appears whole or not at all: a temporary file in the same directory, fsync, rename, fsync of the
 * directory. On failure the temporary file is removed and an older file of that name stays as it was. Throws
 * InputError for what the user can mend (no space, no permission), else what the iterable threw.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array | AsyncIterable<Uint8Array>,
): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  const handle = await open(temporary, 'wx').catch((error) => explainFileError(path, error));
  try {
    try {
      if (typeof data === 'string' || data instanceof Uint8Array) await append(path, handle, data);
      else for await (const chunk of data) await append(path, handle, chunk);
      await handle.sync().catch((error) => explainFileError(path, error));
    } finally {
      await handle.close();
    }
    await move(temporary, path).catch((error) => explainFileError(path, error));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(directory);
}

/**
 * Makes a directory that appears whole or not at all: `fill` gets a temporary one beside it, which is renamed once
 * filled and removed when `fill` throws; the files in it are for `fill` to sync. Throws InputError when something of
 * that name is there already, but for an empty directory.
 */
export async function writeDirectoryAtomic(path: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const target = resolve(path);
  const parent = dirname(target);
  await makeDirectory(parent);
  const temporary = join(parent, `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`);
  await mkdir(temporary).catch((error) => explainFileError(path, error));
  try {
    await fill(temporary);
    await syncDirectory(temporary);
    await rmdir(target).catch((error) => {
      if (error.code !== 'ENOENT') throw new InputError(`${path} exists already: name a new directory, or remove it`);
    });
    await move(temporary, target).catch((error) => explainFileError(path, error));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await syncDirectory(parent);
}

/**
 * Renames. Windows refuses that while another program, a virus scanner or a reader of the old file, has one of the two or
 * a file in them open, mostly for a moment: there it is tried again for 10 s.
 */
export async function move(from: string, to: string): Promise<void> {
  for (let wait = 10; ; wait *= 2) {
    try {
      return await rename(from, to);
    } catch (error) {
      const held = ['EPERM', 'EACCES', 'EBUSY'].includes((error as NodeJS.ErrnoException).code ?? '');
      if (process.platform !== 'win32' || !held || wait > 5120) throw error;
    }
    await setTimeout(wait);
  }
}

/** Makes a directory and those above it; none of it need be new. Throws InputError. */
export async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((error) => explainFileError(path, error));
}

async function append(path: string, handle: FileHandle, chunk: string | Uint8Array): Promise<void> {
  await handle.writeFile(chunk).catch((error) => explainFileError(path, error));
}

/** Makes a rename durable; not every system can open or sync a directory, and then the rename stands anyway. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r').catch(() => null);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/**
 * The real path of the file `name` of an untrusted directory. Refused are absolute names and names with `..`, `\` or
 * NUL; and, once symbolic links are resolved, anything that does not lie inside the (resolved) directory. One exception:
 * when the directory is a snapshot in a Hugging Face hub cache (`models--X--Y/snapshots/REVISION[/…]`), a link may lead
 * into `blobs/` of that same repository, where the cache keeps its files. Throws InputError, also when the file is
 * missing.
 */
export async function resolveInside(directory: string, name: string): Promise<string> {
  const leaves = () => new InputError(`${directory}: file name ${JSON.stringify(name)} leads outside the directory`);
  if (name === '' || isAbsolute(name) || /[\\\0]/.test(name) || /^[a-z]:/i.test(name)) throw leaves();
  if (name.split('/').includes('..')) throw leaves();
  const path = join(directory, name);
  const root = await realpath(directory).catch((error) => explainFileError(directory, error));
  const target = await realpath(path).catch((error) => explainFileError(path, error));
  const allowed = [root];
  const parts = root.split(sep);
  const snapshots = parts.lastIndexOf('snapshots');
  if (parts[snapshots - 1]?.startsWith('models--') && snapshots < parts.length - 1)
    allowed.push([...parts.slice(0, snapshots), 'blobs'].join(sep));
  if (!allowed.some((folder) => target.startsWith(folder.endsWith(sep) ? folder : folder + sep))) throw leaves();
  return target;
}

/** Whether a directory holds a file `name` (a constant of ours): which of several layouts it has, what is optional. */
export async function hasFile(directory: string, name: string): Promise<boolean> {
  return stat(join(directory, name)).then(
    (info) => info.isFile(),
    () => false,
  );
}

/**
 * Reads a file of an untrusted directory whole. InputError when it is missing, leads outside (`resolveInside`), is no
 * regular file or has over `limit` bytes, of which no more than one too many is read, whatever size it claims.
 */
export async function readFileInside(directory: string, name: string, limit: number): Promise<Buffer> {
  const path = join(directory, name);
  const target = await resolveInside(directory, name);
  // stat first: opening a named pipe would wait for a writer.
  const info = await stat(target).catch((error) => explainFileError(path, error));
  if (!info.isFile()) throw new InputError(`${path} is not a file`);
  const tooLong = () => new InputError(`${path} has more than the ${limit} bytes a ${name} may have`);
  if (info.size > limit) throw tooLong();
  const handle = await open(target, 'r').catch((error) => explainFileError(path, error));
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    // The place of the last byte, included.
    for await (const chunk of handle.createReadStream({ end: limit, highWaterMark: 2 ** 20 })) {
      chunks.push(chunk);
      length += chunk.length;
    }
  } catch (error) {
    explainFileError(path, error as NodeJS.ErrnoException);
  }
  if (length > limit) throw tooLong();
  return Buffer.concat(chunks, length);
}

/**
 * Parses a JSON file of an untrusted directory; InputError as `readFileInside`, and when it is not JSON. The limit's
 * default, bytes, is far above any file of settings.
 */
export async function readJsonInside(directory: string, name: string, limit = 4_000_000): Promise<JsonFile> {
  const path = join(directory, name);
  const bytes = await readFileInside(directory, name, limit);
  try {
    return { path, value: parseJson(bytes.toString('utf8')) };
  } catch (error) {
    throw new InputError(`${path} is not JSON: ${(error as Error).message}`);
  }
}

const REASONS: Record<string, string> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist: a part of the path is a file',
  ELOOP: 'is a symbolic link that leads to itself',
  EEXIST: 'is a file, not a directory',
  EISDIR: 'is a directory',
  EACCES: 'may not be accessed: no permission',
  EPERM: 'may not be accessed: no permission',
  EBUSY: 'is in use by another program',
  EROFS: 'cannot be written: the file system is read-only',
  ENOSPC: 'cannot be written: the disk is full',
  EDQUOT: 'cannot be written: the disk quota is used up',
  EMFILE: 'cannot be opened: too many files are open',
  ENAMETOOLONG: 'has too long a name',
  EIO: 'cannot be read or written: input/output error of the device',
};

/** Throws an error of the file system on again: as InputError where the user can mend it. */
export function explainFileError(path: string, error: NodeJS.ErrnoException): never {
  const reason = REASONS[error.code ?? ''];
  throw reason ? new InputError(`${path} ${reason}`) : error;
}
