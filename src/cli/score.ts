import { stat } from 'node:fs/promises';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { buildExample } from '../batch/examples.js';
import { parseRows, type Row } from '../batch/rows.js';
import { type Example, unsupervised } from '../batch/types.js';
import { InputError } from '../errors.js';
import { writeFileAtomic } from '../formats/files.js';
import { LossPrograms } from '../model/loss-program.js';
import { scoreExamples } from '../model/score-examples.js';
import { readRows } from '../text/lines.js';
import { checkWhole } from './check-numbers.js';
import { inferenceOptions, openAdapterDirectory, withLoadedModel } from './inference.js';
import { givingUpOnInterrupt } from './interrupt.js';
import type { Command } from './main.js';
import { configOption } from './options.js';
import { checkApart, checkOutputFile } from './output-file.js';
import { createProgress } from './progress.js';
import { type OpenModel, openModel } from './session.js';

const options = {
  ...inferenceOptions,
  data: { type: 'string', demandOption: true, describe: 'JSONL file of rows, as for sft' },
  output: {
    type: 'string',
    demandOption: true,
    describe: 'JSONL file to write: a row a line, {index, ids, logprobs, labels, weight}',
  },
  'micro-batch-tokens': { type: 'number', default: 2048, describe: 'Most tokens computed at once' },
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const scoreCommand: Command = {
  command: 'score',
  describe: 'Write the log-probability of every token of a data file',
  options,
  computes: true,
  run: async (args) => {
    await runScore(args as Arguments);
    return 0;
  },
};

/** Tokens of the rows that are in memory at once, about; rows share prefixes only within. */
const windowTokens = 1 << 16;

async function runScore(args: Arguments): Promise<void> {
  checkWhole('micro-batch-tokens', args.microBatchTokens, 1);
  await checkOutputFile('--output', args.output);
  checkApart('output', args, options);
  const info = await stat(args.data).catch(() => null);
  if (info && !info.isFile()) {
    throw new InputError(`--data ${args.data} is not a regular file: it is read twice, so save it as a file first.`);
  }
  const model = await openModel(args);
  try {
    const adapter = await openAdapterDirectory(args.adapter, model);
    // The whole file is checked before the device is touched, and read again when scoring.
    const { rows, longest } = await checkRows(args.data, model);
    await withLoadedModel(args, model, adapter, longest, async (loaded, weights) => {
      const programs = new LossPrograms(loaded, { adapter: weights, backward: false });
      const microBatchTokens = Math.max(args.microBatchTokens, longest);
      const progress = createProgress();
      let done = 0;
      const lines = async function* (check: () => void) {
        for await (const window of readWindows(args.data, model)) {
          const { logprobs } = await scoreExamples(programs, window.map(allTargets), microBatchTokens);
          check();
          const text = window.map(({ ids, labels, weight }, i) => {
            const scored = { index: done + i, ids: Array.from(ids), logprobs: logprobs[i] };
            return `${JSON.stringify({ ...scored, labels: Array.from(labels), weight })}\n`;
          });
          done += window.length;
          progress.update(done / rows, `${done} of ${rows} rows`);
          yield new TextEncoder().encode(text.join(''));
        }
        if (done !== rows) {
          throw new InputError(`${args.data} changed while it was read: ${rows} rows were checked, ${done} scored.`);
        }
      };
      try {
        await givingUpOnInterrupt((check) => writeFileAtomic(args.output, lines(check)));
      } finally {
        progress.end();
        programs.destroy();
      }
    });
    console.error(`${rows} rows scored: ${args.output}`);
  } finally {
    await model.checkpoint.close();
  }
}

/** Tokenises every row once; gives their number and the longest's length, at least 1. */
async function checkRows(file: string, model: OpenModel): Promise<{ rows: number; longest: number }> {
  let rows = 0;
  let longest = 1;
  for await (const row of parseRows(readRows(file))) {
    const { length } = tokenise(row, model).ids;
    if (length > model.config.maxPositions) {
      throw new InputError(
        `${row.where} has ${length} tokens, more than the model's ${model.config.maxPositions} positions: shorten it.`,
      );
    }
    rows++;
    longest = Math.max(longest, length);
  }
  if (rows === 0) throw new InputError(`${file} has no rows.`);
  return { rows, longest };
}

async function* readWindows(file: string, model: OpenModel): AsyncGenerator<Example[]> {
  let examples: Example[] = [];
  let tokens = 0;
  for await (const row of parseRows(readRows(file))) {
    const example = tokenise(row, model);
    examples.push(example);
    tokens += example.ids.length;
    if (tokens < windowTokens) continue;
    yield examples;
    examples = [];
    tokens = 0;
  }
  if (examples.length > 0) yield examples;
}

/** The row's tokens, and as labels those of them that sft would learn, which may be none. */
function tokenise(row: Row, { tokenizer, config }: OpenModel): Example {
  const example = row.kind === 'ids' ? row : buildExample(row, tokenizer, config.vocabSize);
  const { ids, labels, weight } = example;
  const outside = ids.find((id) => id >= config.vocabSize);
  if (outside !== undefined) {
    throw new InputError(
      `${row.where} has token id ${outside}, outside the model's vocabulary of ${config.vocabSize}.`,
    );
  }
  const other = labels.findIndex((label, i) => label !== unsupervised && label !== ids[i]);
  if (other >= 0) {
    throw new InputError(
      `${row.where}: "labels" holds ${labels[other]} where "input_ids" holds ${ids[other]}, and score tells of a row's own tokens alone: make it that or ${unsupervised}.`,
    );
  }
  return { ids, labels, weight };
}

/** For the log-probability of every token, learnt or not. */
function allTargets({ ids }: Example): Example {
  return { ids, labels: ids, weight: 1 };
}
