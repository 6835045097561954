import type { Tensor } from '../gpu/tensor.js';
import type { OpContext } from './context.js';

export interface SamplingOptions {
  /** 0: greedy; else at least 1e-6. */
  readonly temperature: number;
  /** Keep the fewest of the most likely tokens whose probabilities reach this; 1: all. Comes after top-k. */
  readonly topP: number;
  /** Keep this many of the most likely tokens; 0: all. */
  readonly topK: number;
  /** Subtracted from the logit of every token already generated. */
  readonly presencePenalty: number;
  /** Tokens that the penalty spares, such as separators of a list. */
  readonly unpenalised: ReadonlySet<number>;
}

export const greedySampling: SamplingOptions = {
  temperature: 0,
  topP: 1,
  topK: 0,
  presencePenalty: 0,
  unpenalised: new Set(),
};

/** Where the penalty keeps its notes: a bit for each token, u32 [slots, ⌈vocab / 32⌉] and u32 [⌈vocab / 32⌉]. */
export interface GivenTokens {
  readonly given: Tensor;
  readonly spared: Tensor;
}

/**
 * Draws a token for each of the batch's logit rows. logits: f32 [rows, stride]; `rows` is the table of `decodeRows`, its
 * seeds and lengths being the counters of the random numbers; sampled: u32 [rows, 4], the token and, as f32, its
 * log-probability under the whole softmax at the temperature (1 for greedy) and that softmax's entropy. `notes` go
 * with a presence penalty.
 */
export function sample(
  ctx: OpContext,
  options: SamplingOptions,
  args: { logits: Tensor; vocab: number; rows: Tensor; sampled: Tensor; notes: GivenTokens | null },
): void {
  const { temperature, topK, topP, presencePenalty } = options;
  const { logits, vocab, rows, sampled, notes } = args;
  const greedy = temperature === 0;
  ctx.recorder.dispatch({
    kernel: 'sample',
    pass: 'forward',
    defines: {
      WG: ctx.cpu ? 64 : 256,
      GREEDY: Number(greedy),
      FILTER: Number(!greedy && (topK > 0 || topP < 1)),
      PENALTY: Number(notes !== null),
      PATHS: 0,
    },
    label: 'sample',
    tensors: { logits, rows, sampled, ...notes },
    params: {
      vocab,
      stride: logits.shape[1],
      words: Math.ceil(vocab / 32),
      penalty: presencePenalty,
      inverseTemperature: greedy ? 1 : 1 / Math.max(temperature, 1e-6),
      topK,
      topP,
    },
    workgroups: [logits.shape[0]],
    bytes: logits.bytes,
  });
}

/** What `sample` gave in row i. */
export function readSampled(words: ArrayBuffer, i: number): { id: number; logprob: number; entropy: number } {
  const [logprob, entropy] = new Float32Array(words, 16 * i + 4, 2);
  return { id: new Uint32Array(words, 16 * i, 1)[0], logprob, entropy };
}
