import { InputError } from '../src/errors.js';
import type { SurveyQuestion } from '../src/evaluate/survey.js';
import { openTable } from '../src/text/table.js';
import { CountryChoice, fold, requireKnown } from './participants.js';
import { type Literal, parsePythonLiteral } from './python-literal.js';
import type { SurveyInput, SurveySource } from './source.js';

/** Options that are no opinion, as those without a text. */
const noOpinion = /^(?:don'?t know.*|dk.*|refused.*|no answer.*|missing.*|not asked.*|other missing.*)$/i;

/** Answers to questions of Pew and the WVS by country. */
export const globalOpinionQa: SurveySource = {
  kind: 'survey',
  name: 'global-opinion-qa',
  title: 'GlobalOpinionQA: questions of Pew and the WVS with shares of answers by country',
  questions: false,
  about: `From https://huggingface.co/datasets/Anthropic/llm_global_opinions, file data/global_opinions.csv (commas; question,
selections, options, source). Licence CC BY-NC-SA 4.0; the questions and answers stay those of the Pew Research Center and
the World Values Survey, whose terms hold.

Countries by their names there: --country "United States,China". Options such as "Don't know" or "Refused" are left out and
the shares of the others made to sum to 1. Which questions' options have no order is not told: give their lines of
survey.jsonl "ordinal": false. Numbers of respondents are not given either.

Reference: Durmus and others (2023), Towards measuring the representation of subjective global opinions in language models.`,
  read,
};

/** A share, or null where the file has nan. */
function isShare(value: Literal): value is number | null {
  return value === null || (typeof value === 'number' && value >= 0);
}

async function read({ files, countries, beside }: SurveyInput) {
  const survey: SurveyQuestion[] = [];
  const seen = new Map<string, string>();
  const choice = new CountryChoice(countries, beside);
  const dropped = {
    'no opinion options': 0,
    'answers of a country without a share of every option': 0,
    'questions with fewer than two options': 0,
    'questions without the countries': 0,
  };
  let rows = 0;
  for (const file of files) {
    const table = await openTable(file);
    const question = table.header.require('question');
    const selections = table.header.require('selections');
    const options = table.header.require('options');
    for await (const { line, values } of table.rows) {
      rows++;
      const where = `${file}, line ${line}`;
      const texts = parsePythonLiteral(values[options], `${where}: options`);
      const shares = parsePythonLiteral(values[selections], `${where}: selections`);
      if (!Array.isArray(texts) || !(shares instanceof Map)) {
        throw new InputError(`${where}: options must be a list and selections a dict`);
      }
      const kept = texts.flatMap((text, i) => (text === null || noOpinion.test(String(text).trim()) ? [] : [i]));
      dropped['no opinion options'] += texts.length - kept.length;
      for (const country of shares.keys()) seen.set(fold(country), country);
      if (kept.length < 2 || values[question].trim() === '') {
        dropped['questions with fewer than two options']++;
        continue;
      }
      const distributions: Record<string, { shares: number[]; n: number | null }> = {};
      for (const [country, list] of shares) {
        if (!choice.reads(country)) continue;
        if (!Array.isArray(list) || list.length !== texts.length || !list.every(isShare)) {
          throw new InputError(`${where}: selections of ${country} must be ${texts.length} shares, one an option`);
        }
        const own = kept.flatMap((i) => list[i] ?? []);
        if (own.length < kept.length) {
          dropped['answers of a country without a share of every option']++;
          continue;
        }
        const sum = own.reduce((a, b) => a + b, 0);
        if (sum > 0) distributions[country] = { shares: own.map((share) => share / sum), n: null };
      }
      if (!choice.suffice(Object.keys(distributions))) {
        dropped['questions without the countries']++;
        continue;
      }
      survey.push({
        id: `goqa-${rows}`,
        language: 'en',
        question: values[question].trim(),
        options: kept.map((i) => ({ code: String(i + 1), text: String(texts[i]).trim() })),
        countries: distributions,
      });
    }
  }
  for (const country of countries) requireKnown('--country', country, seen.values(), files.join(', '));
  return { rows, survey, dropped };
}
