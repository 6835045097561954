import { appendFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../errors.js';
import type { Adapter, LoraPair } from '../formats/adapter.js';
import { peftTensors } from '../formats/adapter.js';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import { writeAdapter } from '../formats/peft.js';
import { writeSafetensors } from '../formats/safetensors-file.js';
import { EventWriter } from '../formats/tensorboard.js';
import type { EvalMetrics, StepMetrics, TrainerState } from '../train/sft.js';
import { createProgress, type Progress } from './progress.js';

/** Writes what a run leaves: run.json, metrics.jsonl, tensorboard/, checkpoints/; and shows its progress. */
export class RunDirectory {
  readonly #path: string;
  readonly #progress: Progress;
  readonly #events: EventWriter;
  #run: Record<string, unknown>;

  private constructor(path: string, run: Record<string, unknown>, events: EventWriter) {
    this.#path = path;
    this.#run = run;
    this.#events = events;
    this.#progress = createProgress();
  }

  /** Makes the directory and says in run.json what runs. */
  static async create(path: string, run: Record<string, unknown>): Promise<RunDirectory> {
    await makeDirectory(path);
    const started = new Date();
    const events = await EventWriter.create(join(path, 'tensorboard'), started.getTime() / 1000);
    const directory = new RunDirectory(path, { started: started.toISOString(), ...run }, events);
    await directory.#writeRun();
    return directory;
  }

  async #writeRun(): Promise<void> {
    await writeFileAtomic(join(this.#path, 'run.json'), `${JSON.stringify(this.#run, null, 2)}\n`);
  }

  async step(metrics: StepMetrics, total: number): Promise<void> {
    await this.#append(metrics.step, { ...metrics });
    const { step, loss, learning_rate, grad_norm, tokens_per_second, examples_per_second } = metrics;
    this.#progress.update(
      step / total,
      `step ${step}/${total}  loss ${loss.toFixed(4)}  lr ${learning_rate.toExponential(2)}  norm ${grad_norm.toFixed(3)}  ` +
        `${tokens_per_second.toFixed(0)} tok/s  ${examples_per_second.toFixed(1)} rows/s${metrics.skipped ? '  skipped' : ''}`,
    );
  }

  async evaluation(metrics: EvalMetrics, best: boolean): Promise<void> {
    await this.#append(metrics.step, { ...metrics });
    this.#progress.line(`step ${metrics.step}  eval loss ${metrics.eval_loss.toFixed(4)}${best ? ' (best)' : ''}`);
  }

  /** A line of metrics.jsonl, and its finite numbers (but the step) as scalars of TensorBoard. */
  async #append(step: number, metrics: Record<string, unknown>): Promise<void> {
    const scalars = Object.entries(metrics).filter(
      (entry): entry is [string, number] => entry[0] !== 'step' && Number.isFinite(entry[1]),
    );
    const file = join(this.#path, 'metrics.jsonl');
    try {
      await appendFile(file, `${JSON.stringify(metrics)}\n`);
      await this.#events.scalars(step, Object.fromEntries(scalars));
    } catch (error) {
      if (error instanceof InputError) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      throw new InputError(`${file} cannot be written: ${code === 'ENOSPC' ? 'the disk is full' : message}`);
    }
  }

  /** A checkpoint appears whole, and replaces one of its name whole: it is written beside and moved into place. */
  async checkpoint(
    name: string,
    adapter: Adapter,
    base: string,
    state: TrainerState,
    moments: { first: Map<string, LoraPair>; second: Map<string, LoraPair> },
  ): Promise<void> {
    const checkpoints = join(this.#path, 'checkpoints');
    const path = join(checkpoints, name);
    const fresh = join(checkpoints, `.${name}.new`);
    const old = join(checkpoints, `.${name}.old`);
    await rm(fresh, { recursive: true, force: true });
    await makeDirectory(fresh);
    await writeAdapter(fresh, adapter, base);
    const named = (pairs: Map<string, LoraPair>, prefix: string) =>
      peftTensors({ config: adapter.config, tensors: pairs }).map((tensor) => ({
        ...tensor,
        name: `${prefix}.${tensor.name}`,
      }));
    await writeSafetensors(join(fresh, 'optimizer.safetensors'), [
      ...named(moments.first, 'first'),
      ...named(moments.second, 'second'),
    ]);
    await writeFileAtomic(join(fresh, 'trainer_state.json'), `${JSON.stringify(state, null, 2)}\n`);
    await rm(old, { recursive: true, force: true });
    await rename(path, old).catch(ignoreMissing);
    await rename(fresh, path);
    await rm(old, { recursive: true, force: true });
  }

  async finish(result: Record<string, unknown>): Promise<void> {
    this.#run = { ...this.#run, finished: new Date().toISOString(), result };
    await this.#writeRun();
  }

  async close(): Promise<void> {
    this.#progress.end();
    await this.#events.close();
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
