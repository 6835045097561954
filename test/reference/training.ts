import type { Example } from '../../src/batch/types.js';
import { type AdamwMoments, adamwStep, zeroMoments } from './adamw.js';
import { lossAndGradients, type ReferenceAdapter, type ReferenceModel } from './decoder.js';
import { clipCoefficient, gradNorm } from './grad-norm.js';
import { type Schedule, scheduleFactor } from './schedule.js';
import { packChains } from './trie.js';

export interface TrainOptions {
  readonly steps: number;
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly warmupSteps: number;
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** 0 = off. */
  readonly maxGradNorm: number;
  /** Learning rate of lora_B over that of lora_A (LoRA+, Hayou et al. 2024). */
  readonly loraplusRatio: number;
}

export interface TrainResult {
  /** [steps] before each update. */
  readonly losses: number[];
  /** [steps] of lora_A. */
  readonly learningRates: number[];
  /** [steps] before clipping. */
  readonly gradNorms: number[];
  readonly adapter: ReferenceAdapter;
}

/** AdamW on the batches in turn, each normalised by its supervised weight; the given adapter is left as it was. */
export function train(
  model: ReferenceModel,
  initial: ReferenceAdapter,
  batches: readonly (readonly Example[])[],
  options: TrainOptions,
): TrainResult {
  const tensors = new Map([...initial.tensors].map(([name, data]) => [name, data.slice()]));
  const adapter = { ...initial, tensors };
  const moments = new Map<string, AdamwMoments>([...tensors].map(([name, data]) => [name, zeroMoments(data.length)]));
  const result: TrainResult = { losses: [], learningRates: [], gradNorms: [], adapter };
  for (let step = 0; step < options.steps; step++) {
    const { loss, gradients } = lossAndGradients(model, adapter, packChains(batches[step % batches.length]));
    const norm = gradNorm(gradients.values());
    const clip = clipCoefficient(norm, options.maxGradNorm);
    const rate = options.learningRate * scheduleFactor(options.schedule, step, options.warmupSteps, options.steps);
    for (const [name, parameter] of tensors) {
      const learningRate = name.includes('lora_B') ? rate * options.loraplusRatio : rate;
      const gradient = gradients.get(name)!.map((g) => g * clip);
      adamwStep(parameter, gradient, moments.get(name)!, step + 1, { ...options, learningRate });
    }
    result.losses.push(loss);
    result.learningRates.push(rate);
    result.gradNorms.push(norm);
  }
  return result;
}
