import { InputError } from '../src/errors.js';
import type { SurveyQuestion } from '../src/evaluate/survey.js';
import { openTable } from '../src/text/table.js';
import { CountryChoice, fold, requireKnown } from './participants.js';
import type { SurveyInput, SurveySource } from './source.js';
import { readQuestions } from './survey-file.js';

/** Microdata of the World Values Survey, wave 7. */
export const wvs: SurveySource = {
  kind: 'survey',
  name: 'wvs',
  title: 'World Values Survey, wave 7: microdata to weighted shares of answers by country',
  questions: true,
  about: `From https://www.worldvaluessurvey.org/WVSDocumentationWV7.jsp, file WVS_Cross-National_Wave_7_csv_v6_0.csv (commas;
B_COUNTRY_ALPHA, W_WEIGHT, Q1 to Q290). Free for non-commercial use, not to be passed on; the questionnaires are the
association's, so their wording comes from a file of yours:
--questions questions.jsonl with a line {"id": "Q1", "language": "en", "question": "…", "options": [{"code": 1, "text": "…"}, …]}
for each question, its options in their order, or "ordinal": false where they have none; one id may stand in several languages.

Countries by their three letters: --country USA,CHN. Respondents count by W_WEIGHT; negative codes (no answer, not asked)
are left out.

Reference: Haerpfer and others (2022), World Values Survey: Round Seven - Country-Pooled Datafile, doi:10.14281/18241.24.`,
  read,
};

/** Weighted answers to one question in one country. */
interface Answers {
  readonly weights: Map<string, number>;
  readonly counts: Map<string, number>;
}

async function read({ files, questions, countries, beside }: SurveyInput) {
  if (questions === null) throw new InputError('wvs needs --questions: the wording of the questions, see --help');
  const wordings = await readQuestions(questions);
  const ids = [...new Set(wordings.map(({ id }) => id))];
  const choice = new CountryChoice(countries, beside);
  const seen = new Map<string, string>();
  const answers = new Map<string, Map<string, Answers>>(ids.map((id) => [id, new Map()]));
  const known = new Map(
    ids.map((id) => [id, new Set(wordings.filter((w) => w.id === id).flatMap((w) => w.options.map((o) => o.code)))]),
  );
  const dropped = { 'no answer': 0, 'codes that the question does not list': 0 };
  let rows = 0;
  for (const file of files) {
    const table = await openTable(file);
    const country = table.header.require('B_COUNTRY_ALPHA');
    const weight = table.header.require('W_WEIGHT');
    const columns = ids.map((id) => ({ id, column: table.header.require(id) }));
    for await (const { line, values } of table.rows) {
      rows++;
      const name = values[country].trim();
      seen.set(fold(name), name);
      if (!choice.reads(name)) continue;
      const share = Number(values[weight]);
      if (values[weight].trim() === '' || !(share >= 0)) {
        throw new InputError(`${file}, line ${line}: W_WEIGHT must be a number of at least 0, not "${values[weight]}"`);
      }
      for (const { id, column } of columns) {
        const text = values[column].trim();
        const code = text !== '' && Number.isFinite(Number(text)) ? String(Number(text)) : text;
        if (code === '' || Number(code) < 0) dropped['no answer']++;
        else if (!known.get(id)?.has(code)) dropped['codes that the question does not list']++;
        else {
          const byCountry = answers.get(id)!;
          const entry = byCountry.get(name) ?? { weights: new Map(), counts: new Map() };
          byCountry.set(name, entry);
          entry.weights.set(code, (entry.weights.get(code) ?? 0) + share);
          entry.counts.set(code, (entry.counts.get(code) ?? 0) + 1);
        }
      }
    }
  }
  for (const name of countries) requireKnown('--country', name, seen.values(), files.join(', '));
  const survey = wordings.flatMap((wording): SurveyQuestion[] => {
    const distributions: Record<string, { shares: number[]; n: number }> = {};
    for (const [name, { weights, counts }] of answers.get(wording.id)!) {
      const own = wording.options.map(({ code }) => weights.get(code) ?? 0);
      const sum = own.reduce((a, b) => a + b, 0);
      const n = wording.options.reduce((total, { code }) => total + (counts.get(code) ?? 0), 0);
      if (sum > 0) distributions[name] = { shares: own.map((value) => value / sum), n };
    }
    return choice.suffice(Object.keys(distributions)) ? [{ ...wording, countries: distributions }] : [];
  });
  const without = wordings.length - survey.length;
  return { rows, survey, dropped: { ...dropped, 'questions that a country was not asked': without } };
}
