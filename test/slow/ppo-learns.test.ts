import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import type { Associate } from '../../datasets/norms.js';
import type { RankingRow } from '../../datasets/ranking-rows.js';
import type { RankingResult } from '../../src/evaluate/result.js';
import { bootstrapSeeds, mean, type SeedEstimate } from '../../src/evaluate/statistics.js';
import { createRandom, shuffle } from '../../src/random.js';
import { askRanking, LEXI_BASE_RANKING_PROMPTS, rankingAnswer } from '../../src/text/prompts.js';
import { lexalign, writeRows } from '../cli/sft-helpers.js';
import { loadTokenizer } from '../text/shared.js';

// Whether PPO teaches order, and not the form of a ranking alone. SFT on rankings in random order teaches lexi-base the form,
// then PPO pays for people's order, with three seeds. What it learnt is asked with pairs of words that were in neither: of
// three words a, b, c of a cue it may have seen a before b and b before c, and is asked of a and c. A control, with one seed,
// is paid for a random order of the same pairs. The cues are those of the training: lexi-base is too small to rank words of
// cues that it never saw (bench/LOG.md, 13).
//   LEXALIGN_SLOW=/a/directory npm test -- test/slow/ppo-learns.test.ts
// takes 77 minutes on two cores beside other work.
const parent = process.env.LEXALIGN_SLOW;
const directory = parent ? mkdtempSync(join(parent, 'lexalign-ppo-')) : '';
const at = (name: string) => join(directory, name);
afterAll(() => {
  if (parent) rmSync(directory, { recursive: true });
});

const seeds = { people: [1, 2, 3], permuted: [1] } as const;
const cues = 27;
/** A cue's strongest associates of one token each; 15 pairs. */
const words = 6;
/** Of those pairs, the ones that are trained on. */
const trained = 9;
/** Times that each of them is asked, its words shuffled anew. */
const copies = [...Array(10).keys()];

interface Pairs {
  readonly cue: string;
  readonly pairs: readonly (readonly Associate[])[];
}
const random = createRandom(7);

async function choosePairs(): Promise<Pairs[]> {
  const tokenizer = await loadTokenizer(join(import.meta.dirname, '../../models/lexi-base'));
  const short = ({ word }: Associate) => tokenizer.encode(` ${word}`, { specials: false }).length === 1;
  const known = loadMiniNorms('en').cues.map(({ cue, responses }) => ({
    cue,
    strong: responses.filter(short).slice(0, words),
  }));
  return known
    .filter(({ strong }) => strong.length === words)
    .slice(0, cues)
    .map(({ cue, strong }) => {
      const all = strong.flatMap((first, i) => strong.slice(i + 1).map((second) => [first, second]));
      return { cue, pairs: shuffle(all, random) };
    });
}

function question(cue: string, pair: readonly Associate[], shown: readonly Associate[]): RankingRow {
  const words = shown.map(({ word }) => word);
  return {
    messages: askRanking(LEXI_BASE_RANKING_PROMPTS.en, cue, words),
    ranking: pair.map(({ word }) => word),
    counts: pair.map(({ count }) => count),
    language: 'en',
    cue,
  };
}

async function run(...args: string[]) {
  const { code, stderr } = await lexalign(...args);
  expect(code, stderr).toBe(0);
}

/** The mean gain in Spearman of each cue's new pairs; null where none was ranked whole before and after. */
async function gains(adapter: string, chosen: readonly Pairs[]): Promise<(number | null)[]> {
  const json = at(`${adapter}.json`);
  const compared = ['--before', at('sft'), '--after', at(adapter), '--max-new-tokens', '32', '--json', json];
  await run('evaluate', 'ranking', '--questions', at('new.jsonl'), ...compared);
  const { runs } = JSON.parse(readFileSync(json, 'utf8')) as RankingResult;
  const [before, after] = runs.map(({ answers }) => answers);
  return chosen.map(({ cue }) => {
    const own = before.flatMap(({ cue: of, spearman: from }, i) => {
      const to = after[i].spearman;
      return of !== cue || from === null || to === null ? [] : [to - from];
    });
    return own.length === 0 ? null : mean(own);
  });
}

describe.skipIf(!parent)('PPO from an SFT that knows the form of a ranking and no order', () => {
  it('ranks new pairs more as people do, where it was paid for that', { timeout: 2 ** 31 - 1 }, async () => {
    const chosen = await choosePairs();
    const trainingRows = () =>
      copies.flatMap(() =>
        chosen.flatMap(({ cue, pairs }) =>
          pairs.slice(0, trained).map((pair) => question(cue, pair, shuffle(pair, random))),
        ),
      );
    const form = trainingRows().map(({ messages, ranking }) => ({
      messages: [...messages, { role: 'assistant', content: rankingAnswer('en', shuffle(ranking, random)) }],
    }));
    const people = trainingRows();
    writeRows(at('form.jsonl'), shuffle(form, random));
    writeRows(at('people.jsonl'), people);
    const permuted = people.map(({ counts: _, ...row }) => ({ ...row, ranking: shuffle(row.ranking, random) }));
    writeRows(at('permuted.jsonl'), permuted);
    // In both orders: a habit of naming the first word first is worth nothing then.
    const unseen = chosen.flatMap(({ cue, pairs }) =>
      pairs.slice(trained).flatMap(([a, b]) => [question(cue, [a, b], [a, b]), question(cue, [a, b], [b, a])]),
    );
    writeRows(at('new.jsonl'), unseen);
    const lora = ['--lora-r', '16', '--lora-alpha', '32'];
    const sft = [...lora, '--learning-rate', '4e-3', '--batch-size', '16', '--num-train-epochs', '1'];
    await run('sft', '--data', at('form.jsonl'), '--output', at('sft'), ...sft);
    const ppo = [
      ...['--init-adapter', at('sft'), '--total-episodes', '3072', '--batch-size', '64'],
      ...['--num-ppo-epochs', '2', '--num-mini-batches', '4', '--response-length', '32', '--temperature', '1'],
      ...['--kl-coef', '0.02', '--learning-rate', '1e-3', '--critic-learning-rate', '1e-3'],
    ];
    const gained = async (order: keyof typeof seeds): Promise<SeedEstimate> => {
      const rows: (number | null)[][] = [];
      for (const seed of seeds[order]) {
        const output = at(`${order}-${seed}`);
        await run('ppo', '--data', at(`${order}.jsonl`), '--output', output, '--seed', String(seed), ...ppo);
        rows.push(await gains(`${order}-${seed}`, chosen));
      }
      const estimate = bootstrapSeeds(rows);
      console.log(`gain in Spearman, ${order} order: ${JSON.stringify(estimate)}`);
      return estimate;
    };
    expect((await gained('people')).low).toBeGreaterThan(0);
    expect((await gained('permuted')).low).toBeLessThanOrEqual(0);
  });
});
