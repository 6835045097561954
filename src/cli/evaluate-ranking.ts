import { UsageError } from '../errors.js';
import { decodeAnswers } from '../evaluate/decode.js';
import { rankingTable } from '../evaluate/measure-tables.js';
import { rankingGain, scoreRankings, summarizeRankings } from '../evaluate/ranking-summary.js';
import { alignTable } from '../evaluate/table-text.js';
import type { EvaluateArguments } from './evaluate.js';
import { checkPositions, chooseRuns, measureRuns, provenance } from './evaluate-runs.js';
import { writeJson } from './output-file.js';
import { ppoOptions } from './ppo-options.js';
import { loadRankingData } from './ranking-data.js';
import { openModel, requireTokenizer } from './session.js';

export async function evaluateRanking(args: EvaluateArguments, given: ReadonlySet<string>): Promise<void> {
  const runs = chooseRuns(args);
  if (args.questions === undefined) throw new UsageError('evaluate ranking needs --questions.');
  const model = await openModel(args);
  try {
    const tokenizer = requireTokenizer(model);
    const { questions } = await loadRankingData(args.questions, model);
    const prompts = questions.map(({ ids }) => ids);
    const maxNewTokens = args.maxNewTokens || ppoOptions['response-length'].default;
    const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0);
    const what = `The longest question's ${longest} tokens and ${maxNewTokens} new ones`;
    checkPositions(model, longest + maxNewTokens, what, 'lower --max-new-tokens');
    const { measured: answers, base } = await measureRuns(
      args,
      model,
      runs,
      longest + maxNewTokens,
      `ranking ${questions.length} questions`,
      (loaded, weights, onProgress) => {
        const { batchSize, deterministic, stop } = args;
        const options = { maxNewTokens, batchSize, deterministic, stop, onProgress };
        return decodeAnswers(loaded, weights, tokenizer, prompts, options);
      },
    );
    const scores = answers.map((own) => scoreRankings(questions, own));
    // A question without a cue is taken for one of its own.
    const cues = questions.map(({ cue }, i) => cue ?? i);
    const summaries = scores.map((own) => summarizeRankings(own, args.seed, cues));
    const gain = scores.length < 2 ? null : rankingGain(scores[0], scores[scores.length - 1], args.seed, cues);
    if (args.json !== '-') {
      console.log(`${questions.length} questions of ${args.questions}, about ${new Set(cues).size} cues:`);
      const named = summaries.map((summary, i) => ({ ...summary, name: runs[i].name }));
      for (const line of alignTable(rankingTable(named, gain))) console.log(line);
    }
    await writeJson(args.json, {
      measure: 'ranking',
      ...base,
      language: [...new Set(questions.map(({ language }) => language))].join(', '),
      questions: args.questions,
      max_new_tokens: maxNewTokens,
      seed: args.seed,
      runs: runs.map(({ name, directory }, run) => ({
        name,
        adapter: directory,
        ...summaries[run],
        answers: scores[run].map((score, i) => ({ cue: questions[i].cue, ...score, text: answers[run][i] })),
      })),
      gain,
      provenance: await provenance(args, given, runs, [args.questions]),
    });
  } finally {
    await model.checkpoint.close();
  }
}
