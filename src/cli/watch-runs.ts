// What the runs below a directory have written so far, read again and again without reading twice what is there.

import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { readJsonInside, resolveInside } from '../formats/files.js';
import { isRecord } from '../formats/keys.js';
import { maxRecordBytes } from './run-directory.js';

/** Folders below the directory in which runs are looked for; `align` puts its runs into the second. */
const mostLevels = 4;
/** A curve keeps from so many points to twice as many. */
const mostPoints = 400;
/** A line of metrics has a few hundred bytes. */
const mostLineBytes = 2 ** 20;
/** Steps whose mean duration tells the time to go. */
const recentSteps = 20;

/** One metric over the steps: at first all points, of long runs every second, fourth, … as they were written. */
export class Curve {
  readonly steps: number[] = [];
  readonly values: number[] = [];
  #every = 1;
  #seen = 0;
  #newest: readonly [step: number, value: number] | null = null;

  add(step: number, value: number): void {
    this.#newest = [step, value];
    if (this.#seen++ % this.#every !== 0) return;
    this.steps.push(step);
    this.values.push(value);
    if (this.steps.length < 2 * mostPoints) return;
    for (const list of [this.steps, this.values]) list.splice(0, list.length, ...list.filter((_, i) => i % 2 === 0));
    this.#every *= 2;
  }

  /** Value by step, the newest included. */
  points(): Map<number, number> {
    const points = new Map(this.steps.map((step, i) => [step, this.values[i]]));
    if (this.#newest) points.set(...this.#newest);
    return points;
  }

  get newest(): number | undefined {
    return this.#newest?.[1];
  }
}

/** A directory with a run.json, and a metrics.jsonl that grows by lines and that a resumed run replaces by a shorter one. */
export class WatchedRun {
  /** Its path below the directory that is watched. */
  readonly name: string;
  /** run.json as it stands; empty where it cannot be read. */
  record: Record<string, unknown> = {};
  curves = new Map<string, Curve>();
  step = 0;
  /** Lines that are no JSON object with a step, or are too long to be one of ours. */
  badLines = 0;
  readonly #directory: string;
  #seconds: number[] = [];
  #recordWritten = 0;
  #metricsWritten = 0;
  #inode = 0;
  /** Bytes of metrics.jsonl that were read: whole lines alone. */
  #offset = 0;

  constructor(name: string, directory: string) {
    this.name = name;
    this.#directory = directory;
  }

  /** When the run last wrote something, in milliseconds since 1970. */
  get written(): number {
    return Math.max(this.#recordWritten, this.#metricsWritten);
  }

  /** Mean seconds of the newest steps; NaN where none told. */
  get stepSeconds(): number {
    return this.#seconds.reduce((sum, value) => sum + value, 0) / this.#seconds.length;
  }

  /** Reads what was written since. */
  async update(): Promise<void> {
    await this.#updateMetrics();
    const info = await stat(join(this.#directory, 'run.json')).catch(() => null);
    if (info?.mtimeMs === this.#recordWritten) return;
    this.#recordWritten = info?.mtimeMs ?? 0;
    const { value } = await readJsonInside(this.#directory, 'run.json', maxRecordBytes).catch(() => ({ value: null }));
    this.record = isRecord(value) ? value : {};
  }

  async #updateMetrics(): Promise<void> {
    const path = await resolveInside(this.#directory, 'metrics.jsonl').catch(() => null);
    const info = path === null ? null : await stat(path).catch(() => null);
    // Another file, or one that was cut: from its beginning.
    if (!info?.isFile() || info.ino !== this.#inode || info.size < this.#offset) {
      this.curves = new Map();
      this.#seconds = [];
      this.step = this.badLines = this.#offset = 0;
    }
    this.#inode = info?.ino ?? 0;
    this.#metricsWritten = info?.mtimeMs ?? 0;
    // Only a regular file: opening a named pipe would wait for a writer.
    if (!info?.isFile() || info.size === this.#offset) return;
    const file = await open(path!, 'r');
    try {
      await this.#readLines(file, info.size);
    } finally {
      await file.close();
    }
  }

  async #readLines(file: FileHandle, size: number): Promise<void> {
    const buffer = Buffer.alloc(Math.min(mostLineBytes, size - this.#offset));
    while (this.#offset < size) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - this.#offset), this.#offset);
      const end = buffer.subarray(0, bytesRead).lastIndexOf(10) + 1;
      if (end === 0 && bytesRead < mostLineBytes) return; // half a line
      if (end === 0) this.badLines++;
      else for (const line of buffer.toString('utf8', 0, end - 1).split('\n')) this.#add(line);
      this.#offset += end || bytesRead;
    }
  }

  #add(line: string): void {
    const metrics = parseLine(line);
    if (!metrics) {
      if (line.trim() !== '') this.badLines++;
      return;
    }
    const { step, ...rest } = metrics;
    this.step = Math.max(this.step, step);
    let seconds = 0;
    for (const [key, value] of Object.entries(rest)) {
      // A run has a few dozen metrics: what has more is no run's.
      if (typeof value !== 'number' || (this.curves.size >= 200 && !this.curves.has(key))) continue;
      if (key === 'seconds' || key.startsWith('seconds/')) seconds += value;
      const curve = this.curves.get(key) ?? new Curve();
      this.curves.set(key, curve);
      curve.add(step, value);
    }
    if (seconds > 0) this.#seconds = [...this.#seconds, seconds].slice(-recentSteps);
  }
}

function parseLine(line: string): ({ step: number } & Record<string, unknown>) | null {
  try {
    const value = JSON.parse(line);
    return typeof value?.step === 'number' ? value : null;
  } catch {
    return null;
  }
}

/** The runs in and below a directory, by name. Links are not followed. */
export class WatchedRuns {
  readonly directory: string;
  runs: readonly WatchedRun[] = [];
  #updating: Promise<void> | null = null;
  #nextSearch = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** Looks for new runs now and then, and for what each has written. */
  update(): Promise<void> {
    this.#updating ??= this.#update().finally(() => {
      this.#updating = null;
    });
    return this.#updating;
  }

  async #update(): Promise<void> {
    const started = Date.now();
    if (started >= this.#nextSearch) {
      const known = new Map(this.runs.map((run) => [run.name, run]));
      const paths = await findRuns(this.directory, mostLevels);
      const named = paths.map((path) => ({ path, name: relative(this.directory, path) || '.' }));
      this.runs = named.map(({ path, name }) => known.get(name) ?? new WatchedRun(name, path));
      // A search of a large tree must not go on all the time.
      this.#nextSearch = Date.now() + Math.max(2000, 10 * (Date.now() - started));
    }
    for (const run of this.runs) await run.update();
  }
}

async function findRuns(directory: string, levels: number): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  if (entries.some((entry) => entry.name === 'run.json' && entry.isFile())) return [directory];
  const folders = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'));
  const found: string[] = [];
  if (levels > 0)
    for (const { name } of folders.sort((a, b) => (a.name < b.name ? -1 : 1)))
      found.push(...(await findRuns(join(directory, name), levels - 1)));
  return found;
}
