import type { LanguageModel } from '../model/language-model.js';
import { LossPrograms } from '../model/loss-program.js';
import type { PpoModels, PpoOptions } from './ppo.js';
import { edgePlaces, packSequences, rowPlaces, type Sequence, scatter } from './ppo-batch.js';

/** Forward passes over a rollout: log-probabilities under the reference, values by the critic, a number a token. */
export class Scorer {
  readonly #reference: LossPrograms;
  readonly #critic: LossPrograms;
  readonly #microBatchTokens: number;

  constructor(
    model: LanguageModel,
    { reference, critic, valueHead }: PpoModels,
    options: Pick<PpoOptions, 'temperature' | 'cliprangeValue' | 'microBatchTokens'>,
  ) {
    const { temperature, cliprangeValue: cliprange } = options;
    this.#microBatchTokens = options.microBatchTokens;
    this.#reference = new LossPrograms(model, { adapter: reference, backward: false, temperature });
    const objective = { kind: 'value', head: valueHead.chunk, cliprange } as const;
    this.#critic = new LossPrograms(model, { adapter: critic, backward: false, objective });
  }

  /** `onPart` is called before each micro-batch; what it throws ends the pass. */
  async score(
    sequences: readonly Sequence[],
    onPart: () => void = () => {},
  ): Promise<{ reference: Float64Array[]; values: Float64Array[] }> {
    const reference: Float64Array[] = new Array(sequences.length);
    const values: Float64Array[] = new Array(sequences.length);
    const nothing = { gradScale: 0, dropout: 0, seed: 0 };
    for (const part of packSequences(sequences, [...sequences.keys()], this.#microBatchTokens)) {
      onPart();
      const { batch, program } = await this.#reference.prepare(part.trie);
      const critic = await this.#critic.prepare(part.trie);
      const [logprobs, valued] = await Promise.all([program.run(batch, nothing), critic.program.run(batch, nothing)]);
      scatter(reference, part, edgePlaces(part, sequences), logprobs);
      scatter(values, part, rowPlaces(part, sequences, batch), valued);
    }
    return { reference, values };
  }

  destroy(): void {
    this.#reference.destroy();
    this.#critic.destroy();
  }
}
