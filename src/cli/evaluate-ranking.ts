import { UsageError } from '../errors.js';
import { decodeAnswers } from '../evaluate/decode.js';
import { type RankingSummary, rankingGain, scoreRankings, summarizeRankings } from '../evaluate/ranking-summary.js';
import { alignColumns, estimateRow, percent, signedThree, three } from '../evaluate/table-text.js';
import type { EvaluateArguments } from './evaluate.js';
import { checkPositions, chooseRuns, measureRuns, provenance } from './evaluate-runs.js';
import { writeJson } from './output-file.js';
import { ppoOptions } from './ppo-options.js';
import { createProgress } from './progress.js';
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
      (loaded, weights, run) => {
        const progress = createProgress();
        return decodeAnswers(loaded, weights, tokenizer, prompts, {
          maxNewTokens,
          batchSize: args.batchSize,
          deterministic: args.deterministic,
          stop: args.stop,
          onProgress: (share) =>
            progress.update(share, `${run.name}: ranking ${questions.length} questions: ${Math.round(100 * share)} %`),
        }).finally(progress.end);
      },
    );
    const scores = answers.map((own) => scoreRankings(questions, own));
    // A question without a cue is taken for one of its own.
    const cues = questions.map(({ cue }, i) => cue ?? i);
    const summaries = scores.map((own) => summarizeRankings(own, args.seed, cues));
    const gain = scores.length < 2 ? null : rankingGain(scores[0], scores[scores.length - 1], args.seed, cues);
    if (args.json !== '-') {
      console.log(`${questions.length} questions of ${args.questions}, about ${new Set(cues).size} cues:`);
      const rows = [['', '', 'mean', '95 % interval', 'p', 'cues']];
      summaries.forEach((summary, i) => {
        rows.push(...describe(runs[i].name, summary));
      });
      if (gain?.spearman) rows.push(estimateRow('gain', 'Spearman', gain.spearman, signedThree));
      if (gain) rows.push(estimateRow('gain', 'reward', gain.reward, signedThree));
      for (const line of alignColumns(rows, 2)) console.log(line);
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

function describe(name: string, { parsed, whole, spearman, attainable, reward }: RankingSummary): string[][] {
  return [
    estimateRow(name, 'read, %', parsed, percent),
    estimateRow('', 'whole, %', whole, percent),
    spearman ? estimateRow('', 'Spearman', spearman, three) : ['', 'Spearman', 'no whole ranking', '', '', '0'],
    ...(spearman && attainable !== null
      ? [['', 'Spearman of people’s order', three(attainable), '', '', String(spearman.n)]]
      : []),
    estimateRow('', 'reward', reward, three),
  ];
}
