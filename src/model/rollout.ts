import { InputError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import { createTensor, Tensor, upload } from '../gpu/tensor.js';
import { rowWords } from '../ops/decode-rows.js';
import { readSampled, type SamplingOptions } from '../ops/sample.js';
import type { AdapterWeights } from './adapter.js';
import type { LanguageModel } from './language-model.js';
import {
  layOutRollout,
  type RolloutSize,
  type RolloutTensors,
  type RolloutWishes,
  recordStep,
  rolloutSize,
  stepCapacities,
} from './rollout-program.js';
import { type RolloutRequest, RolloutSchedule, type RolloutStep, type Sequence } from './rollout-schedule.js';

export interface RolloutOptions extends RolloutWishes {
  /** Its numbers may change between runs. */
  readonly adapter: AdapterWeights | null;
  /** A sequence ends with any of these. */
  readonly stopIds: ReadonlySet<number>;
  readonly sampling: SamplingOptions;
  /** A sequence comes out the same whatever others it is computed with, at some cost of speed for few rows. */
  readonly deterministic?: boolean;
}

/** What a caller is told while a rollout runs. */
export interface RolloutHooks {
  /** Called with every token as it comes, the one that ends a sequence included. */
  readonly onToken?: (sequence: number, id: number) => void;
  /** Asked after every token; true ends that sequence (its last token stays). */
  readonly shouldStop?: (sequence: number, ids: readonly number[]) => boolean;
  /** Called when a step has been submitted, in `hostMs` of the host; what it throws ends the run after that step. */
  readonly onStep?: (step: RolloutStep, hostMs: number) => void;
}

export interface Completion {
  /** The sampled tokens; last the one of `stopIds` that ended it, if one did. */
  readonly ids: readonly number[];
  /**
   * [ids] log-probability of each under the full softmax at the sampling temperature (1 where that is 0), after the
   * presence penalty and before top-k and top-p.
   */
  readonly logprobs: readonly number[];
  /** [ids] entropy of that softmax, nats. */
  readonly entropies: readonly number[];
  /** Ended by a stop id, by `shouldStop`, or by the number of tokens. */
  readonly finish: 'eos' | 'stop' | 'length';
}

type Growing = { [key in 'ids' | 'logprobs' | 'entropies']: number[] } & { finish: Completion['finish'] | null };

/**
 * Samples continuations of prompts, with a KV cache and programs that are kept from run to run. Sequences that end make
 * room for those that wait, and tokens of their prompts are computed along with the steps of the others (continuous
 * batching, Yu et al. 2022; chunked prefill, Agrawal et al. 2023). A sampled token feeds the next step on the device.
 */
export class RolloutEngine {
  readonly size: RolloutSize;
  readonly #model: LanguageModel;
  readonly #options: RolloutOptions;
  readonly #owned: Tensor[] = [];
  readonly #tensors: RolloutTensors;
  readonly #capacities: readonly number[];
  readonly #programs = new Map<number, Program>();

  private constructor(model: LanguageModel, options: RolloutOptions) {
    const { sampling, deterministic = false } = options;
    this.#model = model;
    this.#options = options;
    this.size = rolloutSize(model, options);
    this.#capacities = stepCapacities(this.size, deterministic);
    this.#tensors = layOutRollout(
      (label, dtype, shape) => {
        const tensor = createTensor(model.device, label, dtype, shape);
        this.#owned.push(tensor);
        return tensor;
      },
      model,
      this.size,
      { sampling, deterministic },
    );
    const { notes } = this.#tensors;
    if (notes) upload(model.device, notes.spared, bitSet(options.sampling.unpenalised, notes.spared.elements));
  }

  /**
   * Allocates what all runs need. Throws InputError where not one sequence finds room in the KV cache, or the device has
   * too little memory.
   */
  static async create(model: LanguageModel, options: RolloutOptions): Promise<RolloutEngine> {
    const engine = new RolloutEngine(model, options);
    try {
      // The largest step first, so that its buffers serve the others.
      for (const capacity of [...engine.#capacities].reverse())
        model.pool.acquire(engine.#record(capacity).plan().slots);
      await model.device.finish();
      return engine;
    } catch (error) {
      engine.destroy();
      throw error;
    }
  }

  /** One completion for each request. Throws InputError for a prompt without tokens or room, before any work. */
  async run(requests: readonly RolloutRequest[], hooks: RolloutHooks = {}): Promise<Completion[]> {
    const { maxNewTokens, maxPromptTokens } = this.size;
    requests.forEach(({ prompt }, i) => {
      if (prompt.length === 0) throw new InputError(`prompt ${i + 1} has no tokens.`);
      if (prompt.length > maxPromptTokens)
        throw new InputError(
          `prompt ${i + 1} has ${prompt.length} tokens, more than the ${maxPromptTokens} opened for.`,
        );
      const length = prompt.length + maxNewTokens;
      if (length > this.#model.maxPositions) {
        throw new InputError(
          `prompt ${i + 1} and --max-new-tokens come to ${length} tokens, more than the ${this.#model.maxPositions} positions opened: lower one of them.`,
        );
      }
    });
    const schedule = new RolloutSchedule(this.size, requests);
    const table = new Uint32Array(this.size.stepRows * rowWords);
    const results = requests.map((): Growing => ({ ids: [], logprobs: [], entropies: [], finish: null }));
    // Where the device is another one than the host, it works on a step while the host reads the one before.
    const ahead = this.#model.device.features.cpu ? 0 : 1;
    const running: { step: RolloutStep; words: Promise<ArrayBuffer> }[] = [];
    try {
      for (;;) {
        for (const sequence of schedule.admit()) this.#place(sequence);
        const step = schedule.next(table);
        if (step) {
          const program = await this.#program(step.sequences.length + step.promptTokens);
          const started = performance.now();
          running.push({ step, words: this.#submit(program, step, table) });
          hooks.onStep?.(step, performance.now() - started);
        }
        while (running.length > (step ? ahead : 0)) {
          const { step, words } = running.shift()!;
          const read = await words;
          step.sequences.forEach((sequence, i) => {
            const result = results[sequence.index];
            if (result.finish === null && this.#accept(sequence, result, read, i, hooks)) schedule.end(sequence);
          });
        }
        if (!step && running.length === 0) break;
      }
    } finally {
      await Promise.allSettled(running.map(({ words }) => words));
    }
    if (!schedule.done) throw new Error('rollout: sequences were left that found no room');
    return results as Completion[];
  }

  /** Adds the token of a row to its result; true where the sequence ends. */
  #accept({ index }: Sequence, result: Growing, read: ArrayBuffer, row: number, hooks: RolloutHooks): boolean {
    const { id, logprob, entropy } = readSampled(read, row);
    if (!Number.isFinite(logprob))
      throw new InputError(`sequence ${index + 1}: the model's logits are not all numbers; try --tier f32.`);
    result.ids.push(id);
    result.logprobs.push(logprob);
    result.entropies.push(entropy);
    hooks.onToken?.(index, id);
    if (this.#options.stopIds.has(id)) result.finish = 'eos';
    else if (hooks.shouldStop?.(index, result.ids)) result.finish = 'stop';
    else if (result.ids.length === this.size.maxNewTokens) result.finish = 'length';
    return result.finish !== null;
  }

  #record(capacity: number) {
    const { adapter, sampling, deterministic = false } = this.#options;
    return recordStep(this.#model, { adapter, sampling, deterministic }, this.#tensors, this.size, capacity);
  }

  /** The program for so many rows. */
  async #program(rows: number): Promise<Program> {
    const { device, pool, batch } = this.#model;
    const capacity = this.#capacities.find((n) => n >= rows)!;
    let program = this.#programs.get(capacity);
    if (!program) {
      program = await this.#record(capacity).realise(device, pool, batch.buffer);
      this.#programs.set(capacity, program);
    }
    return program;
  }

  /** Runs a step; the promise gives what its sequences drew. */
  #submit(program: Program, { sequences, promptTokens }: RolloutStep, table: Uint32Array): Promise<ArrayBuffer> {
    const { device, batch } = this.#model;
    const rows = sequences.length + promptTokens;
    upload(device, this.#tensors.rows, table.subarray(0, rows * rowWords));
    batch.write({ rows, logitRows: sequences.length });
    program.run();
    return device.read(this.#tensors.sampled.buffer!, 0, 16 * sequences.length);
  }

  /** Tells the device where a sequence's prompt lies. */
  #place({ slot, places }: Sequence): void {
    const { paths, notes } = this.#tensors;
    this.#uploadRow(paths, slot, places);
    if (notes) this.#uploadRow(notes.given, slot, new Uint32Array(notes.given.shape[1]));
  }

  #uploadRow({ label, dtype, shape: [, width], buffer }: Tensor, row: number, data: Uint32Array): void {
    upload(this.#model.device, new Tensor(label, dtype, [width], buffer, 4 * width * row), data);
  }

  destroy(): void {
    for (const tensor of this.#owned) this.#model.device.destroyBuffer(tensor.buffer!);
    for (const program of this.#programs.values()) program.destroy();
    this.#programs.clear();
  }
}

function bitSet(ids: Iterable<number>, words: number): Uint32Array {
  const bits = new Uint32Array(words);
  for (const id of ids) if (id < 32 * words) bits[id >> 5] |= 1 << (id & 31);
  return bits;
}
