import { appendFile, mkdir, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import type { Adapter } from '../formats/adapter.js';
import { hasFile, makeDirectory, readJsonInside, writeFileAtomic } from '../formats/files.js';
import { isRecord } from '../formats/keys.js';
import { writeAdapter } from '../formats/peft.js';
import { EventWriter } from '../formats/tensorboard.js';
import { sayHowToGoOn } from './checkpoints.js';
import { adapterCard } from './model-card.js';
import { createProgress, type Progress } from './progress.js';
import { lockDirectory } from './writer-lock.js';

/** Largest run.json that is read. */
export const maxRecordBytes = 16e6;

/** Of a trainer's state: how far its run had come. */
export interface Reached {
  readonly step: number;
  /** The evaluation of that step is to be made yet. */
  readonly evaluationDue?: boolean;
}

/** Writes what a run leaves: run.json, metrics.jsonl, tensorboard/; and shows its progress. */
export class RunDirectory {
  readonly #path: string;
  readonly #progress: Progress;
  readonly #events: EventWriter;
  readonly #unlock: () => Promise<void>;
  #run: Record<string, unknown>;
  #last: object | null;

  private constructor(
    path: string,
    run: Record<string, unknown>,
    events: EventWriter,
    last: object | null,
    unlock: () => Promise<void>,
  ) {
    this.#path = path;
    this.#run = run;
    this.#events = events;
    this.#last = last;
    this.#unlock = unlock;
    this.#progress = createProgress();
  }

  /** Makes the directory and says in run.json what runs. Throws InputError where another run took it meanwhile. */
  static async create(path: string, run: Record<string, unknown>): Promise<RunDirectory> {
    await makeDirectory(path);
    const unlock = await lockDirectory(path);
    if (await hasFile(path, 'run.json')) {
      await unlock();
      throw new InputError(`--output ${path} has become another run's: name a new directory.`);
    }
    const started = new Date();
    const events = await EventWriter.create(join(path, 'tensorboard'), started.getTime() / 1000);
    const directory = new RunDirectory(path, { started: started.toISOString(), ...run }, events, null, unlock);
    await directory.#writeRun();
    return directory;
  }

  /**
   * Goes on from a checkpoint's state with the run of run.json, changed by `run`; metrics of later steps are dropped, and
   * those of an evaluation that is to be made again.
   */
  static async reopen(path: string, run: Record<string, unknown>, state: Reached): Promise<RunDirectory> {
    const unlock = await lockDirectory(path);
    const { finished: _, result: __, resumed = [], ...before } = await readRun(path);
    const now = new Date();
    const { step } = state;
    const last = await dropLater(join(path, 'metrics.jsonl'), state);
    const events = await EventWriter.create(join(path, 'tensorboard'), now.getTime() / 1000, step);
    const history = [...(resumed as unknown[]), { step, at: now.toISOString() }];
    const directory = new RunDirectory(path, { ...before, ...run, resumed: history }, events, last, unlock);
    await directory.#writeRun();
    return directory;
  }

  /** The newest line of metrics.jsonl, be it of before the run was resumed; null where there is none. */
  get last(): object | null {
    return this.#last;
  }

  async #writeRun(): Promise<void> {
    await writeFileAtomic(join(this.#path, 'run.json'), `${JSON.stringify(this.#run, null, 2)}\n`);
  }

  /** A line of metrics.jsonl, and its finite numbers (but the step) as scalars of TensorBoard. */
  async append(step: number, metrics: object): Promise<void> {
    const scalars = Object.entries(metrics).filter(
      (entry): entry is [string, number] => entry[0] !== 'step' && Number.isFinite(entry[1]),
    );
    const file = join(this.#path, 'metrics.jsonl');
    try {
      await appendFile(file, `${JSON.stringify(metrics)}\n`);
      this.#last = metrics;
      await this.#events.scalars(step, Object.fromEntries(scalars));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const reason = `${file} cannot be written: ${code === 'ENOSPC' ? 'the disk is full' : message}`;
      throw await sayHowToGoOn(this.#path, error instanceof InputError ? error : new InputError(reason));
    }
  }

  /** How far the run is: a share of 1, and what is shown beside it. */
  progress(share: number, text: string): void {
    this.#progress.update(share, text);
  }

  /** A line that stays on the screen. */
  line(text: string): void {
    this.#progress.line(text);
  }

  /** Writes the adapter, completes run.json, and writes the model card. */
  async finish(adapter: Adapter, base: string, result: Record<string, unknown>): Promise<void> {
    try {
      await writeAdapter(this.#path, adapter, base);
      this.#run = { ...this.#run, finished: new Date().toISOString(), result };
      await this.#writeRun();
      await writeFileAtomic(join(this.#path, 'README.md'), await adapterCard(this.#path, this.#run));
    } catch (error) {
      throw await sayHowToGoOn(this.#path, error);
    }
  }

  async close(): Promise<void> {
    this.#progress.end();
    await this.#events.close();
    await this.#unlock();
  }
}

/** run.json of a run, as it stands. Throws InputError. */
export async function readRun(path: string): Promise<Record<string, unknown>> {
  const { path: file, value } = await readJsonInside(path, 'run.json', maxRecordBytes);
  if (!isRecord(value)) throw new InputError(`${file} is not a JSON object`);
  return value;
}

/** Keeps the lines up to a state, and gives the last of them; a line that an interrupt cut off goes too. */
async function dropLater(file: string, { step, evaluationDue }: Reached): Promise<object | null> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw new InputError(`${file} cannot be read, of which a resumed run keeps the beginning: ${error.message}`);
  });
  const kept = text.split('\n').filter((line) => {
    try {
      const metrics = JSON.parse(line);
      return metrics.step < step || (metrics.step === step && !(evaluationDue && 'eval_loss' in metrics));
    } catch {
      return false;
    }
  });
  await writeFileAtomic(file, kept.map((line) => `${line}\n`).join(''));
  return kept.length > 0 ? JSON.parse(kept[kept.length - 1]) : null;
}

/** A run's directory must be new or empty, so that no run writes over another; and writable. Leaves nothing behind. */
export async function checkOutput(output: string): Promise<void> {
  const entries = await readdir(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new InputError(
      `--output ${output} cannot be used: ${error.code === 'ENOTDIR' ? 'it, or a part of its path, is a file' : error.message}.`,
    );
  });
  if (entries.length > 0) throw new InputError(`--output ${output} is not empty: name a new directory, or remove it.`);
  const refuse = (error: NodeJS.ErrnoException) => {
    throw new InputError(`--output ${output} is not writable (${error.code}): name a directory that you may write to.`);
  };
  // Not mkdir's `recursive`: below /proc it never ends.
  const missing: string[] = [];
  for (let path = resolve(output); !(await stat(path).catch(() => null)); path = dirname(path)) {
    missing.push(path);
    if (path === dirname(path)) break; // a drive of Windows that is not there
  }
  const made: string[] = [];
  try {
    for (const path of missing.reverse()) {
      await mkdir(path).catch(refuse);
      made.unshift(path);
    }
    const probe = join(output, '.writable');
    await writeFile(probe, '').catch(refuse);
    await rm(probe);
  } finally {
    for (const path of made) await rmdir(path);
  }
}
