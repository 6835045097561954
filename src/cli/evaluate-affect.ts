import { type LexiconImport, readLexicon } from '../../datasets/lexicon.js';
import type { LexiconSource } from '../../datasets/source.js';
import { wordNorms } from '../../datasets/word-norms.js';
import { InputError, UsageError } from '../errors.js';
import { firstWords, type Lexicon, leastCoverage, summarizeAffect } from '../evaluate/affect.js';
import { parseAssociates } from '../evaluate/association.js';
import { affectTable } from '../evaluate/measure-tables.js';
import type { Base } from '../evaluate/result.js';
import { alignTable } from '../evaluate/table-text.js';
import type { EvaluateArguments } from './evaluate.js';
import { askForLists } from './evaluate-association.js';
import { provenance, type Run } from './evaluate-runs.js';
import { readAssociationResult } from './evaluation-result.js';
import { writeJson } from './output-file.js';

/** People's associates of each cue and those of each run. */
interface Lists {
  readonly base: Base;
  readonly language: string;
  readonly cues: readonly string[];
  readonly human: readonly (readonly string[])[];
  readonly runs: readonly (Run & { readonly lists: readonly (readonly string[])[] })[];
}

export async function evaluateAffect(args: EvaluateArguments, given: ReadonlySet<string>): Promise<void> {
  if (args.lexicon === undefined) throw new UsageError('evaluate affect needs --lexicon.');
  const files = args.lexicon.split(',');
  const { lexicon } = await readLexicons(files.map((file) => ({ file, source: wordNorms })));
  const { runs, human, base, ...about } = await collectLists(args, given);
  const dimensions = summarizeAffect(
    human,
    runs.map(({ lists }) => lists),
    lexicon,
    args.seed,
  );
  const people = dimensions.map(({ dimension, human: { coverage } }) => [dimension, coverage] as const);
  warnOfCoverage('people', people);
  for (const [i, { name }] of runs.entries()) {
    const covers = dimensions.map(({ dimension, runs: own }) => [dimension, own[i].coverage] as const);
    warnOfCoverage(name, covers);
  }
  if (args.json !== '-') {
    console.log(`${about.cues.length} cues, the first ${firstWords} associates of each:`);
    const names = runs.map(({ name }) => name);
    for (const line of alignTable(affectTable(dimensions, names))) console.log(line);
  }
  await writeJson(args.json, {
    measure: 'affect',
    ...base,
    ...about,
    seed: args.seed,
    lexicon_words: lexicon.size,
    first_words: firstWords,
    run_names: runs.map(({ name, directory }) => ({ name, adapter: directory })),
    dimensions,
    provenance: await provenance(args, given, runs, [...files, args.norms ?? '', args.answers ?? '']),
  });
}

/** Says on stderr, in one line, in which dimensions a lexicon rates so few of `who`'s words that medians say little. */
export function warnOfCoverage(who: string, covers: readonly (readonly [dimension: string, coverage: number])[]): void {
  const low = covers
    .filter(([, coverage]) => coverage < leastCoverage)
    .map(([dimension, coverage]) => `${dimension} for ${(100 * coverage).toFixed(1)} %`);
  if (low.length > 0)
    console.error(`Warning: the lexicon has ${low.join(', ')} of the words of ${who}: its medians say little.`);
}

/** Several lexicons as one, and each as it was read. Throws InputError where two rate the same dimension. */
export async function readLexicons(
  files: readonly { readonly file: string; readonly source: LexiconSource }[],
): Promise<{ readonly lexicon: Lexicon; readonly imports: readonly LexiconImport[] }> {
  const dimensions = new Map<string, ReadonlyMap<string, number>>();
  const words = new Set<string>();
  const imports: LexiconImport[] = [];
  for (const { file, source } of files) {
    const own = await readLexicon(file, source);
    imports.push(own);
    for (const [name, ratings] of own.lexicon.dimensions) {
      if (dimensions.has(name))
        throw new InputError(`--lexicon ${file} rates ${name} again: name each dimension once.`);
      dimensions.set(name, ratings);
      for (const word of ratings.keys()) words.add(word);
    }
  }
  return { lexicon: { dimensions, size: words.size }, imports };
}

/** Lists in the order of people's cues. Throws InputError where a run in `--answers` lacks a cue. */
async function collectLists(args: EvaluateArguments, given: ReadonlySet<string>): Promise<Lists> {
  if (args.answers === undefined) {
    const { norms, runs, base } = await askForLists({ ...args, k: args.k ?? String(firstWords) });
    const cues = norms.cues.map(({ cue }) => cue);
    return {
      base,
      language: norms.language,
      cues,
      human: norms.cues.map(({ responses }) => responses.map(({ word }) => word)),
      runs: runs.map(({ texts, ...run }) => ({
        ...run,
        lists: texts.map((text, i) => parseAssociates(text, cues[i])),
      })),
    };
  }
  const again = ['norms', 'model', 'adapter', 'before', 'after', 'k'].find((option) => given.has(option));
  if (again) throw new UsageError(`--${again} means nothing with --answers, which hold the lists.`);
  const { model, quantize, tier, language, human, runs } = await readAssociationResult(args.answers);
  return {
    base: { model, quantize, tier },
    language,
    cues: human.map(({ cue }) => cue),
    human: human.map(({ words }) => words),
    runs: runs.map(({ name, adapter, cues }) => {
      const answers = new Map(cues.map(({ cue, predictions }) => [cue, predictions]));
      const lists = human.map(({ cue }) => {
        const list = answers.get(cue);
        if (!list) throw new InputError(`${args.answers}: ${name} has no answer about the cue "${cue}".`);
        return list;
      });
      return { name, directory: adapter, lists };
    }),
  };
}
