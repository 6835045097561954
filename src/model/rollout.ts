import { packBatch, packMicroBatches, rowBucket } from '../batch/pack.js';
import { buildTrie } from '../batch/trie.js';
import { type Example, unsupervised } from '../batch/types.js';
import { InputError } from '../errors.js';
import { type BufferPool, type Program, Recorder } from '../gpu/program.js';
import { createTensor, type Tensor, upload } from '../gpu/tensor.js';
import { appendToCache, cacheAttention, type KvCache } from '../ops/cache-attention.js';
import type { AdapterWeights } from './adapter.js';
import { BatchTensors } from './batch-tensors.js';
import { attendTree, attentionShape, type DecoderTape, decoder } from './decoder.js';
import type { LanguageModel } from './language-model.js';
import type { DecoderContext } from './linear.js';
import { type LogitRows, readLogits, recordHead } from './logits.js';
import { type Sampled, Sampler, type SamplingOptions } from './sampling.js';

/** A sequence to sample. Prompts that are equal or start alike are computed and stored once. */
export interface RolloutRequest {
  readonly prompt: Int32Array;
  /** Of this sequence's random numbers, an integer from 0 to below 2^53; `sequenceSeed` makes them. */
  readonly seed: number;
}

export interface RolloutOptions {
  readonly adapter: AdapterWeights | null;
  readonly maxNewTokens: number;
  /** A sequence ends with any of these. */
  readonly stopIds: ReadonlySet<number>;
  readonly sampling: SamplingOptions;
  /** Sequences decoded together. */
  readonly batchSize: number;
  /** Tokens of prompts computed together. */
  readonly promptTokens: number;
}

/** What a caller is told while a rollout runs. */
export interface RolloutHooks {
  /** Called with every token as it comes, the one that ends a sequence included. */
  readonly onToken?: (sequence: number, id: number) => void;
  /** Asked after every token; true ends that sequence (its last token stays). */
  readonly shouldStop?: (sequence: number, ids: readonly number[]) => boolean;
}

export interface Completion {
  /** The sampled tokens; last the one of `stopIds` that ended it, if one did. */
  readonly ids: readonly number[];
  /**
   * [ids] log-probability of each under the full softmax at the sampling temperature (1 where that is 0), after the
   * presence penalty and before top-k and top-p.
   */
  readonly logprobs: readonly number[];
  /** Ended by a stop id, by `shouldStop`, or by the number of tokens. */
  readonly finish: 'eos' | 'stop' | 'length';
}

/** Samples continuations of prompts. Its adapter may change between runs. */
export class RolloutEngine {
  readonly #model: LanguageModel;
  readonly #options: RolloutOptions;

  private constructor(model: LanguageModel, options: RolloutOptions) {
    this.#model = model;
    this.#options = options;
  }

  static async create(model: LanguageModel, options: RolloutOptions): Promise<RolloutEngine> {
    return new RolloutEngine(model, options);
  }

  /** One completion for each request. Throws InputError for a prompt without tokens or room, before any work. */
  async run(requests: readonly RolloutRequest[], hooks: RolloutHooks = {}): Promise<Completion[]> {
    const { batchSize, promptTokens, maxNewTokens } = this.#options;
    const results: Growing[] = requests.map(() => ({ ids: [], logprobs: [], finish: 'length' }));
    requests.forEach(({ prompt }, i) => {
      if (prompt.length === 0) throw new InputError(`prompt ${i + 1} has no tokens.`);
      const length = prompt.length + maxNewTokens;
      if (length > this.#model.maxPositions) {
        throw new InputError(
          `prompt ${i + 1} and --max-new-tokens come to ${length} tokens, more than the ${this.#model.maxPositions} positions opened: lower one of them.`,
        );
      }
    });
    if (maxNewTokens === 0) return results;
    // A made-up target behind each prompt makes its last token a row that needs logits.
    const examples: Example[] = requests.map(({ prompt }) => ({
      ids: Int32Array.from([...prompt, 0]),
      labels: Int32Array.from({ length: prompt.length + 1 }, (_, i) => (i === prompt.length ? 0 : unsupervised)),
      weight: 1,
    }));
    for (const group of packMicroBatches(examples, promptTokens)) {
      for (let first = 0; first < group.length; first += batchSize) {
        const members = group.slice(first, first + batchSize);
        const decoding = new Decoding(
          this.#model,
          { ...this.#options, ...hooks },
          members.map((i) => ({ index: i, request: requests[i], example: examples[i] })),
        );
        try {
          await decoding.run(results);
        } finally {
          decoding.destroy();
        }
      }
    }
    return results;
  }

  destroy(): void {}
}

interface Growing {
  ids: number[];
  logprobs: number[];
  finish: Completion['finish'];
}

interface Member {
  readonly index: number;
  readonly request: RolloutRequest;
  readonly example: Example;
}

interface Sequence {
  readonly index: number;
  readonly sampler: Sampler;
  /** Cache places from the first token to the last one stored. */
  readonly path: number[];
}

/** One batch of sequences from their prompts to their ends. */
class Decoding {
  readonly #model: LanguageModel;
  readonly #options: RolloutOptions & RolloutHooks;
  readonly #members: readonly Member[];
  readonly #pool: BufferPool;
  readonly #owned: Tensor[] = [];
  readonly #programs: Program[] = [];
  readonly #destroyed: { destroy(): void }[] = [];

  constructor(model: LanguageModel, options: RolloutOptions & RolloutHooks, members: readonly Member[]) {
    this.#model = model;
    this.#options = options;
    this.#members = members;
    this.#pool = model.pool;
  }

  async run(results: Growing[]): Promise<void> {
    const { config, device, operand } = this.#model;
    const { maxNewTokens } = this.#options;
    const trie = buildTrie(this.#members.map(({ example }) => example));
    const nodes = trie.tokens.length;
    const capacity = rowBucket(nodes);
    const places = capacity + this.#members.length * maxNewTokens;
    const dim = config.kvHeads * config.headDim;
    if (places * dim * 4 > device.maxBinding) {
      throw new InputError(
        `the KV cache of ${places} tokens passes what this device binds at once: lower --batch-size or --max-new-tokens.`,
      );
    }
    const caches: KvCache[] = Array.from({ length: config.layers }, (_, i) => ({
      keys: this.#own(createTensor(device, `cache.${i}.keys`, operand, [places, dim])),
      values: this.#own(createTensor(device, `cache.${i}.values`, operand, [places, dim])),
    }));
    let logits = await this.#prefill(trie, capacity, caches);

    // Logit rows stand in order of trie nodes, and several prompts may end at one node.
    const rowOfNode = new Map<number, number>();
    for (const row of trie.edgeRow) if (!rowOfNode.has(row)) rowOfNode.set(row, rowOfNode.size);
    let active: Sequence[] = this.#members.map(({ index, request, example }, i) => ({
      index,
      sampler: new Sampler(this.#options.sampling, request.seed),
      path: Array.from(trie.nodeOf[i].subarray(0, example.ids.length - 1)),
    }));
    let rows = active.map((_, i) => rowOfNode.get(trie.nodeOf[i][this.#members[i].example.ids.length - 2])!);
    const step = await this.#decodeProgram(
      caches,
      active.length,
      Math.max(...active.map((s) => s.path.length)) + maxNewTokens,
    );
    let nextPlace = capacity;
    for (;;) {
      const picked = active.map((sequence, i) => sequence.sampler.pick(logits(rows[i])));
      const going: Sequence[] = [];
      const inputs: number[] = [];
      active.forEach((sequence, i) => {
        if (this.#accept(sequence, picked[i], results)) return;
        going.push(sequence);
        inputs.push(picked[i].id);
      });
      if (going.length === 0) return;
      for (const sequence of going) sequence.path.push(nextPlace++);
      logits = await step(going, inputs);
      active = going;
      rows = active.map((_, i) => i);
    }
  }

  /** Adds a token to its result; true where the sequence ends. */
  #accept({ index }: Sequence, { id, logprob }: Sampled, results: Growing[]): boolean {
    const { stopIds, maxNewTokens, onToken, shouldStop } = this.#options;
    const result = results[index];
    result.ids.push(id);
    result.logprobs.push(logprob);
    onToken?.(index, id);
    if (stopIds.has(id)) result.finish = 'eos';
    else if (shouldStop?.(index, result.ids)) result.finish = 'stop';
    else return result.ids.length >= maxNewTokens;
    return true;
  }

  /** Computes all prompts as one trie, filling the cache at each node's own place. */
  async #prefill(trie: ReturnType<typeof buildTrie>, capacity: number, caches: readonly KvCache[]): Promise<LogitRows> {
    const { device } = this.#model;
    const batch = packBatch(trie, { capacity, ...this.#model.attention });
    const tensors = new BatchTensors(device, capacity, batch.edgeTarget.length, this.#model.attention);
    this.#destroyed.push(tensors);
    const place = this.#own(createTensor(device, 'place', 'u32', [capacity]));
    upload(
      device,
      place,
      Uint32Array.from({ length: capacity }, (_, i) => i),
    );
    const recorder = new Recorder(this.#model.kernels);
    const d = this.#context(recorder, capacity);
    const overTree = attendTree(d, tensors.trees);
    const tape = decoder(
      d,
      { tokens: tensors.tokens, positions: tensors.positions, ropeTable: this.#model.ropeTable },
      (layer, q, k, v, o, lse) => {
        overTree(layer, q, k, v, o, lse);
        appendToCache(d.ops, caches[layer], { k, v, place });
      },
    );
    const logits = this.#head(d, tape, tensors.logitRows, batch.logitRows.length);
    const program = await recorder.realise(device, this.#pool, this.#model.batch.buffer);
    this.#programs.push(program);
    tensors.upload(batch);
    this.#model.batch.write({ rows: batch.rows, logitRows: batch.logitRows.length });
    program.run();
    return readLogits(this.#model, logits, batch.logitRows.length);
  }

  /** Records one step of decoding; the returned function runs it for the sequences still going and their last tokens. */
  async #decodeProgram(caches: readonly KvCache[], sequences: number, maxLength: number) {
    const { device } = this.#model;
    const make = (label: string, shape: readonly number[]) => this.#own(createTensor(device, label, 'u32', shape));
    const [tokens, positions, place, lengths, all] = ['tokens', 'positions', 'place', 'lengths', 'all'].map((label) =>
      make(label, [sequences]),
    );
    const paths = make('paths', [sequences, maxLength]);
    upload(
      device,
      all,
      Uint32Array.from({ length: sequences }, (_, i) => i),
    );
    const recorder = new Recorder(this.#model.kernels);
    const d = this.#context(recorder, sequences);
    const tape = decoder(d, { tokens, positions, ropeTable: this.#model.ropeTable }, (layer, q, k, v, o) => {
      appendToCache(d.ops, caches[layer], { k, v, place });
      cacheAttention(d.ops, attentionShape(d, layer), caches[layer], { q, o, paths, lengths });
    });
    const logits = this.#head(d, tape, all, sequences);
    const program = await recorder.realise(device, this.#pool, this.#model.batch.buffer);
    this.#programs.push(program);
    const flat = new Uint32Array(sequences * maxLength);
    return async (going: readonly Sequence[], inputs: readonly number[]): Promise<LogitRows> => {
      going.forEach(({ path }, i) => {
        flat.set(path, i * maxLength);
      });
      upload(device, paths, flat.subarray(0, going.length * maxLength));
      upload(device, tokens, Uint32Array.from(inputs));
      upload(
        device,
        positions,
        Uint32Array.from(going, (s) => s.path.length - 1),
      );
      upload(
        device,
        lengths,
        Uint32Array.from(going, (s) => s.path.length),
      );
      upload(
        device,
        place,
        Uint32Array.from(going, (s) => s.path[s.path.length - 1]),
      );
      this.#model.batch.write({ rows: going.length, logitRows: going.length });
      program.run();
      return readLogits(this.#model, logits, going.length);
    };
  }

  #context(recorder: Recorder, capacity: number): DecoderContext {
    const { config, weights } = this.#model;
    return {
      ops: this.#model.ops(recorder),
      config,
      weights,
      adapter: this.#options.adapter,
      capacity,
      training: false,
    };
  }

  /** Logits of the indexed rows, one tensor for each part of the vocabulary. */
  #head(d: DecoderContext, tape: DecoderTape, index: Tensor, rows: number): Tensor[] {
    const logits = recordHead(d, this.#model, { x: tape.x, index, rows });
    this.#owned.push(...logits);
    return logits;
  }

  #own(tensor: Tensor): Tensor {
    this.#owned.push(tensor);
    return tensor;
  }

  destroy(): void {
    for (const tensor of this.#owned) this.#model.device.destroyBuffer(tensor.buffer!);
    for (const program of this.#programs) program.destroy();
    for (const thing of this.#destroyed) thing.destroy();
  }
}
