import { encodeQuestion } from '../batch/messages.js';
import { parseMessages, parseObject, parseWeight, shapeOf } from '../batch/rows.js';
import { InputError } from '../errors.js';
import { normalizeWord, wordKey } from '../evaluate/association.js';
import type { HumanRanking, RankingLanguage } from '../evaluate/ranking.js';
import type { Message } from '../text/chat-template.js';
import { digestFile, readRows } from '../text/lines.js';
import { isNamedReward } from './load-reward.js';
import { type OpenModel, requireTokenizer } from './session.js';

/** A question with what people answer. */
export interface RankingQuestion extends HumanRanking {
  readonly messages: readonly Message[];
  readonly language: RankingLanguage;
  readonly cue: string | null;
  /** The prompt as the model takes it. */
  readonly ids: Int32Array;
}

export interface RankingData {
  readonly file: string;
  /** SHA-256 (hex) of the file. */
  readonly digest: string;
  readonly questions: readonly RankingQuestion[];
  readonly stats: { readonly rows: number; readonly tokens: number };
}

const shape =
  '{"messages": […], "ranking": [words], "language": "en" or "zh"}, with an optional "cue" and "counts" of the words';

/** Reads and tokenises ranking rows. Throws InputError that names file and line. */
export async function loadRankingData(
  file: string,
  model: Pick<OpenModel, 'directory' | 'tokenizer'>,
): Promise<RankingData> {
  const tokenizer = requireTokenizer(model);
  const questions: RankingQuestion[] = [];
  for await (const { text, where } of readRows(file)) {
    const row = parseRankingRow(text, where);
    questions.push({ ...row, ids: encodeQuestion(row.messages, tokenizer, where) });
  }
  if (questions.length === 0) throw new InputError(`${file} has no rows: a row is ${shape}`);
  const tokens = questions.reduce((n, { ids }) => n + ids.length, 0);
  return { file, digest: await digestFile(file), questions, stats: { rows: questions.length, tokens } };
}

/** Throws InputError where a reward of ours pays for another answer than all these questions ask for. */
export function checkReward(reward: string, { file, questions }: Pick<RankingData, 'file' | 'questions'>): void {
  const shown = questions.filter(({ messages, ranking }) => {
    const text = normalizeWord(messages.map(({ content }) => content).join('\n'));
    return ranking.every((word) => text.includes(wordKey(word)));
  }).length;
  if (reward === 'coverage' && shown === questions.length)
    throw new InputError(
      `--reward coverage pays for words that people gave, and every question of ${file} shows all of them: take --reward strict-rank, or lists (lexalign data --lists).`,
    );
  if (isNamedReward(reward) && reward !== 'coverage' && shown === 0)
    throw new InputError(
      `--reward ${reward} pays for the order of words that a question shows, and none of ${file} shows all of its "ranking": take --reward coverage, or rankings (lexalign data --ranking K).`,
    );
}

function parseRankingRow(line: string, where: string): Omit<RankingQuestion, 'ids'> {
  const row = parseObject(line, where, shape);
  const { ranking, counts = null, language, cue = null } = row;
  const refuse = (key: string, must: string) => new InputError(`${where}: "${key}" must be ${must}; a row is ${shape}`);
  shapeOf(row, where, shape);
  const { messages } = parseMessages(row, where);
  if (messages.at(-1)?.role === 'assistant') throw refuse('messages', 'a question: leave out the answer at its end');
  if (parseWeight(row.weight, where) !== 1) throw refuse('weight', '1: every question counts alike');
  if (!Array.isArray(ranking) || ranking.length === 0 || !ranking.every((word) => typeof word === 'string'))
    throw refuse('ranking', 'a list of words, strongest first');
  if (new Set(ranking.map(wordKey)).size < ranking.length) throw refuse('ranking', 'a list without a word twice');
  if (counts !== null && !(Array.isArray(counts) && counts.length === ranking.length && areFalling(counts)))
    throw refuse('counts', 'a number a word of "ranking", none above the one before it, not all alike');
  if (language !== 'en' && language !== 'zh') throw refuse('language', '"en" or "zh"');
  if (cue !== null && typeof cue !== 'string') throw refuse('cue', 'text');
  return { messages, ranking, counts, language, cue };
}

function areFalling(counts: readonly unknown[]): counts is readonly number[] {
  const falls = counts.every(
    (count, i) => Number.isFinite(count) && (i === 0 || (count as number) <= (counts[i - 1] as number)),
  );
  return falls && (counts.length < 2 || counts[0] !== counts.at(-1));
}
