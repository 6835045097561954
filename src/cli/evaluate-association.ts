import { stat } from 'node:fs/promises';
import { generic } from '../../datasets/generic.js';
import { importAssociations } from '../../datasets/import-associations.js';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import type { Norms } from '../../datasets/norms.js';
import { ParticipantFilter } from '../../datasets/participants.js';
import { InputError, UsageError } from '../errors.js';
import { scoreAssociations } from '../evaluate/association.js';
import {
  associationGains,
  formatComparisons,
  formatSummary,
  summarizeAssociations,
} from '../evaluate/association-summary.js';
import { associationPromptIds, decodeAssociations } from '../evaluate/decode-associations.js';
import type { Base } from '../evaluate/result.js';
import type { AssociationPrompt } from '../text/prompts.js';
import { chooseAssociationPrompt } from './association-prompt.js';
import type { EvaluateArguments } from './evaluate.js';
import { checkPositions, chooseRuns, measureRuns, provenance, type Run } from './evaluate-runs.js';
import { writeJson } from './output-file.js';
import { isLexiBase, type OpenModel, openModel, requireTokenizer } from './session.js';

/** Lists of associates as each run gives them. */
export interface AskedLists {
  readonly norms: Norms;
  readonly base: Base;
  readonly prompt: AssociationPrompt;
  readonly maxNewTokens: number;
  readonly ks: readonly number[];
  readonly runs: readonly (Run & { readonly texts: readonly string[] })[];
}

export async function evaluateAssociation(args: EvaluateArguments, given: ReadonlySet<string>): Promise<void> {
  const { norms, base, prompt, maxNewTokens, ks, runs } = await askForLists(args);
  const scored = runs.map(({ name, directory, texts }) => ({
    name,
    adapter: directory,
    texts,
    scores: scoreAssociations(norms.cues, texts, ks, args.seed),
  }));
  const summaries = scored.map(({ scores }) => summarizeAssociations(scores, ks, args.seed));
  const [first, last] = [scored[0], scored[scored.length - 1]];
  const gains = scored.length > 1 ? associationGains(first.scores, last.scores, ks, args.seed) : null;
  if (args.json !== '-') {
    const whole = `${norms.cues.length} cues of ${args.norms}`;
    if (gains) {
      console.log(`${whole}, before ${first.adapter ?? 'the base model'}, after ${last.adapter}:`);
      const comparison = { title: norms.language, base: summaries[0], adapter: summaries[summaries.length - 1], gains };
      for (const line of formatComparisons([comparison], ['before', 'after'])) console.log(line);
    } else {
      console.log(`${whole}, ${first.adapter ? `adapter ${first.adapter}` : 'no adapter'}:`);
      for (const line of formatSummary(summaries[0])) console.log(line);
    }
  }
  await writeJson(args.json, {
    measure: 'association',
    ...base,
    norms: args.norms,
    language: norms.language,
    prompt,
    max_new_tokens: maxNewTokens,
    presence_penalty: args.presencePenalty,
    seed: args.seed,
    ks,
    human: norms.cues.map(({ cue, responses }) => ({
      cue,
      words: responses.map(({ word }) => word),
    })),
    runs: scored.map(({ name, adapter, texts, scores }, run) => ({
      name,
      adapter,
      ...summaries[run],
      cues: scores.map((score, i) => ({ ...score, text: texts[i] })),
    })),
    gains,
    provenance: await provenance(args, given, runs, [args.norms ?? '', args.promptFile ?? '']),
  });
}

/** Asks every run for its associates of the norms' cues. */
export async function askForLists(args: EvaluateArguments): Promise<AskedLists> {
  const runs = chooseRuns(args);
  if (args.norms === undefined) throw new UsageError(`evaluate ${args.measure} needs --norms.`);
  if (args.k !== undefined) parseKs(args.k); // refused before files are read
  const norms = await readNorms(args.norms, args.language);
  const model = await openModel(args);
  try {
    const tokenizer = requireTokenizer(model);
    const prompt = await chooseAssociationPrompt(args.promptFile, model, norms.language);
    const ks = chooseKs(args.k, model);
    const most = Math.max(...ks);
    const maxNewTokens = args.maxNewTokens || listTokens(most, model);
    const cues = norms.cues.map(({ cue }) => cue);
    const longest = cues.reduce((n, cue) => Math.max(n, associationPromptIds(tokenizer, prompt, cue, most).length), 0);
    const positions = longest + maxNewTokens;
    checkPositions(
      model,
      positions,
      `The longest prompt's ${longest} tokens and ${maxNewTokens} new ones`,
      'lower --max-new-tokens',
    );
    const what = `decoding lists for ${cues.length} cues`;
    const { measured, base } = await measureRuns(args, model, runs, positions, what, (loaded, weights, onProgress) => {
      const { presencePenalty, batchSize, deterministic, stop } = args;
      const options = { words: most, maxNewTokens, presencePenalty, batchSize, deterministic, stop, onProgress };
      return decodeAssociations(loaded, weights, tokenizer, prompt, cues, options);
    });
    return { norms, base, prompt, maxNewTokens, ks, runs: runs.map((run, i) => ({ ...run, texts: measured[i] })) };
  } finally {
    await model.checkpoint.close();
  }
}

/** The Ks of `--k`, ascending; without it those that suit the model. Throws UsageError. */
export function chooseKs(text: string | undefined, model: OpenModel): number[] {
  if (text === undefined) return isLexiBase(model) ? [5, 10] : [5, 10, 20, 30, 40, 50];
  return parseKs(text);
}

/** Longest list of the largest K, tokens: a word and its separator take about three of lexi-base, fewer than eight of any model. */
export function listTokens(most: number, model: OpenModel): number {
  return isLexiBase(model) ? Math.max(28, 3 * most) : Math.max(64, 8 * most);
}

/** Throws UsageError. */
export function parseKs(text: string): number[] {
  const ks = text.split(',').map(Number);
  if (!ks.every((k) => Number.isInteger(k) && k >= 1 && k <= 1000)) {
    throw new UsageError(`--k ${text}: write whole numbers from 1 to 1000 as 5,10.`);
  }
  return [...new Set(ks)].sort((a, b) => a - b);
}

async function readNorms(source: string, language: string | undefined): Promise<Norms> {
  const embedded = /^mini-norms:(.*)$/.exec(source)?.[1];
  if (embedded !== undefined) {
    if (embedded !== 'en' && embedded !== 'zh')
      throw new UsageError(`--norms ${source}: there are mini-norms:en and mini-norms:zh.`);
    if (language !== undefined && language !== embedded)
      throw new UsageError(`--norms ${source} is not of --language ${language}.`);
    return loadMiniNorms(embedded);
  }
  if (language === undefined) throw new UsageError('--norms of a file needs --language, such as en or zh.');
  const info = await stat(source).catch(() => null);
  if (!info?.isFile()) throw new InputError(`--norms ${source} ${info ? 'is not a file' : 'does not exist'}.`);
  const choice = { filter: new ParticipantFilter([], []), positions: null };
  const { norms } = await importAssociations([source], generic, choice, language);
  if (norms.cues.length < 2) throw new InputError(`--norms ${source} has one cue; the measure needs two at least.`);
  return norms;
}
