import { type GeneralText, loadInstructions, loadTexts, readTexts } from '../../datasets/side-effects.js';
import { encodeQuestion } from '../batch/messages.js';
import type { Example } from '../batch/types.js';
import { InputError } from '../errors.js';
import { decodeAnswers } from '../evaluate/decode.js';
import { sideEffectsTable } from '../evaluate/measure-tables.js';
import {
  follows,
  type Instruction,
  sideEffectChange,
  summarizeSideEffects,
  type TextScore,
} from '../evaluate/side-effects.js';
import { alignTable } from '../evaluate/table-text.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { scoreWhole } from '../model/score-examples.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { EvaluateArguments } from './evaluate.js';
import { checkPositions, chooseRuns, measureRuns, provenance } from './evaluate-runs.js';
import { writeJson } from './output-file.js';
import { type OpenModel, openModel, requireTokenizer } from './session.js';

/** Tokens of a text that count; longer ones are cut. */
const textTokens = 1024;
/** Tokens of an answer at most. */
const answerTokens = 64;

export async function evaluateSideEffects(args: EvaluateArguments, given: ReadonlySet<string>): Promise<void> {
  const runs = chooseRuns(args);
  const texts = args.text === undefined ? loadTexts(args.language) : await readTexts(args.text);
  const instructions = loadInstructions(args.language);
  const model = await openModel(args);
  try {
    const tokenizer = requireTokenizer(model);
    const probes = prepareSideEffects(texts, instructions, model);
    checkPositions(model, probes.positions, 'An instruction and its answer', 'take a model with more');
    const what = `${instructions.length} instructions`;
    const { measured, base } = await measureRuns(
      args,
      model,
      runs,
      probes.positions,
      what,
      (loaded, weights, onProgress) => measureSideEffects(loaded, weights, tokenizer, probes, { ...args, onProgress }),
    );
    const summaries = measured.map((own) => summarizeSideEffects(own.texts, own.followed, args.seed));
    const change = measured.length < 2 ? null : sideEffectChange(measured[0], measured[measured.length - 1], args.seed);
    if (args.json !== '-') {
      const named = summaries.map((summary, i) => ({ ...summary, name: runs[i].name }));
      for (const line of alignTable(sideEffectsTable(named, change))) console.log(line);
    }
    await writeJson(args.json, {
      measure: 'side-effects',
      ...base,
      language: args.language ?? 'en, zh',
      text: args.text ?? null,
      seed: args.seed,
      runs: runs.map(({ name, directory }, run) => ({
        name,
        adapter: directory,
        ...summaries[run],
        texts: texts.map(({ id }, i) => ({ id, ...measured[run].texts[i] })),
        instructions: instructions.map(({ id, prompt }, i) => ({
          id,
          prompt,
          answer: measured[run].answers[i],
          followed: measured[run].followed[i],
        })),
      })),
      change,
      provenance: await provenance(args, given, runs, [args.text ?? '']),
    });
  } finally {
    await model.checkpoint.close();
  }
}

/** Texts and instructions as tokens. */
export interface SideEffectProbes {
  readonly instructions: readonly Instruction[];
  readonly examples: readonly Example[];
  readonly prompts: readonly Int32Array[];
  /** Longest sequence that they take. */
  readonly positions: number;
}

/** Tokenises texts and instructions. Throws InputError. */
export function prepareSideEffects(
  texts: readonly GeneralText[],
  instructions: readonly Instruction[],
  model: OpenModel,
): SideEffectProbes {
  const tokenizer = requireTokenizer(model);
  const most = Math.min(textTokens, model.config.maxPositions);
  const examples = texts.map(({ id, text }) => textExample(tokenizer, id, text, most));
  const prompts = instructions.map(({ prompt }) => ask(tokenizer, prompt));
  const longest = examples.reduce((length, { ids }) => Math.max(length, ids.length), 0);
  const positions = prompts.reduce((length, ids) => Math.max(length, ids.length + answerTokens), longest);
  return { instructions, examples, prompts, positions };
}

/** What one run makes of them. */
export interface MeasuredSideEffects {
  readonly answers: readonly string[];
  readonly texts: readonly TextScore[];
  readonly followed: readonly boolean[];
}

export async function measureSideEffects(
  loaded: LanguageModel,
  adapter: AdapterWeights | null,
  tokenizer: Tokenizer,
  { instructions, examples, prompts }: SideEffectProbes,
  options: {
    microBatchTokens: number;
    batchSize: number;
    deterministic?: boolean;
    onProgress: (share: number) => void;
  },
): Promise<MeasuredSideEffects> {
  const { batchSize, deterministic, onProgress } = options;
  const { logprobs } = await scoreWhole(loaded, adapter, examples, options.microBatchTokens);
  const answers = await decodeAnswers(loaded, adapter, tokenizer, prompts, {
    maxNewTokens: answerTokens,
    batchSize,
    deterministic,
    onProgress,
  });
  return {
    answers,
    texts: logprobs.map(textScore),
    followed: instructions.map((instruction, i) => follows(instruction, answers[i])),
  };
}

/** All tokens but the first are predicted. */
function textExample(tokenizer: Tokenizer, id: string, text: string, most: number): Example {
  const ids = tokenizer.encode(text, { specials: true }).slice(0, most);
  if (ids.length < 2) throw new InputError(`text ${id} has fewer than two tokens: nothing is predicted in it`);
  return { ids, labels: ids, weight: 1 };
}

function textScore(logprobs: readonly (number | null)[]): TextScore {
  const known = logprobs.filter((logprob) => logprob !== null);
  return { tokens: known.length, nll: -known.reduce((sum, logprob) => sum + logprob, 0) };
}

function ask(tokenizer: Tokenizer, prompt: string): Int32Array {
  if (!tokenizer.hasChatTemplate) return tokenizer.encode(prompt, { specials: true });
  return encodeQuestion([{ role: 'user', content: prompt }], tokenizer, 'an instruction');
}
