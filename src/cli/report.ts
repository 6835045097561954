import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { parseObject } from '../batch/rows.js';
import { InputError, UsageError } from '../errors.js';
import { type Metrics, trainingSection } from '../evaluate/report-curves.js';
import { type ReportBlock, type ReportDocument, type ReportSection, toMarkdown } from '../evaluate/report-document.js';
import { toHtml } from '../evaluate/report-html.js';
import {
  affectSection,
  associationSection,
  importsSection,
  rankingSection,
  sideEffectsSection,
  studySection,
  surveySection,
} from '../evaluate/report-sections.js';
import type { EvaluationResult } from '../evaluate/result.js';
import { hasFile, makeDirectory, readFileInside, readJsonInside, writeFileAtomic } from '../formats/files.js';
import { isRecord } from '../formats/keys.js';
import { digestFile, readRows } from '../text/lines.js';
import { readEvaluationResult } from './evaluation-result.js';
import type { Command } from './main.js';
import { configOption } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { checkOutput } from './run-directory.js';
import { commandLine } from './usage.js';

const options = {
  input: {
    type: 'string',
    demandOption: true,
    describe: 'Results (the --json of evaluate) and directories of runs, studies and imported data, comma-separated',
  },
  output: {
    type: 'string',
    demandOption: true,
    describe: 'Directory for report.html, report.md and report.json; must be new or empty',
  },
  title: { type: 'string', default: 'Alignment report', describe: 'Heading' },
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const reportCommand: Command = {
  command: 'report',
  describe: 'Gather results and runs into one HTML file that opens without network, and Markdown and JSON',
  options,
  computes: false,
  run: async (args) => {
    await runReport(args as Arguments);
    return 0;
  },
};

/** What one input adds. */
interface Part {
  readonly sections: readonly ReportSection[];
  /** The command that made it, where it is known. */
  readonly command: string | null;
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
  /** As it goes into report.json. */
  readonly data: unknown;
}

async function runReport(args: Arguments): Promise<void> {
  const inputs = args.input.split(',').map((input) => input.trim());
  if (inputs.some((input) => input === '')) throw new UsageError('--input has an empty name between its commas.');
  await checkJson(args.json, args.output);
  await checkOutput(args.output);
  const result = await writeReport(inputs, args.output, args.title);
  await writeJson(args.json, result);
  if (args.json !== '-') console.log(`Report: ${join(args.output, 'report.html')}, report.md, report.json`);
}

/** Writes report.html, report.md and report.json of results, runs and imported data; gives what is in report.json. */
export async function writeReport(inputs: readonly string[], output: string, title: string): Promise<object> {
  const parts: Part[] = [];
  for (const input of inputs) parts.push(await readPart(input));
  const document: ReportDocument = {
    title,
    created: new Date().toISOString(),
    sections: [...parts.flatMap(({ sections }) => sections), howMade(parts)],
  };
  const result = { title: document.title, created: document.created, inputs: parts.map(({ data }) => data) };
  await makeDirectory(output);
  await writeFileAtomic(join(output, 'report.html'), toHtml(document, await readChartLibrary()));
  await writeFileAtomic(join(output, 'report.md'), toMarkdown(document));
  await writeFileAtomic(join(output, 'report.json'), `${JSON.stringify(result, null, 2)}\n`);
  return result;
}

async function readPart(input: string): Promise<Part> {
  const info = await stat(input).catch(() => null);
  if (!info) throw new InputError(`--input ${input} does not exist.`);
  if (info.isFile()) return readResult(input);
  if (await hasFile(input, 'run.json')) return readRun(input);
  if (await hasFile(input, 'card.json')) return readCard(input);
  if (await hasFile(input, 'result.json')) return readResult(join(input, 'result.json'));
  throw new InputError(
    `--input ${input} is a directory without run.json (of a run), card.json (of imported data) or result.json (of a study).`,
  );
}

async function readResult(file: string): Promise<Part> {
  const result = await readEvaluationResult(file);
  const { provenance } = result;
  if (typeof provenance?.command !== 'string' || !Array.isArray(provenance.files)) {
    throw new InputError(`${file} does not say what it was made of: evaluate again with this version`);
  }
  let sections: ReportSection[];
  try {
    sections = sectionsOf(result);
  } catch (error) {
    // A file cut or edited by hand: the figures that a section needs are not there.
    throw new InputError(
      `${file} lacks figures of ${result.measure === 'study' ? 'align' : `evaluate ${result.measure}`}: ${(error as Error).message}`,
    );
  }
  const own = { file, sha256: await digestFile(file) };
  return { sections, command: provenance.command, files: [own, ...provenance.files], data: result };
}

function sectionsOf(result: EvaluationResult): ReportSection[] {
  if (result.measure === 'association') return [associationSection(result)];
  if (result.measure === 'ranking') return [rankingSection(result)];
  if (result.measure === 'affect') return [affectSection(result)];
  if (result.measure === 'study') return [importsSection(result), studySection(result)];
  return [result.measure === 'survey' ? surveySection(result) : sideEffectsSection(result)];
}

/** Largest run.json and card.json that is read. */
const maxJson = 16e6;
const metricsShape = "a step's metrics by name";

async function readRun(directory: string): Promise<Part> {
  const { value } = await readJsonInside(directory, 'run.json', maxJson);
  const run = isRecord(value) ? value : {};
  const metrics = await readMetrics(directory);
  const data = Array.isArray(run.data) ? run.data.filter(isRecord) : [];
  const files = data.flatMap(({ file: name, sha256 }) =>
    typeof name === 'string' && typeof sha256 === 'string' ? [{ file: name, sha256 }] : [],
  );
  const weights = join(directory, 'adapter_model.safetensors');
  if (await hasFile(directory, 'adapter_model.safetensors'))
    files.push({ file: weights, sha256: await digestFile(weights) });
  const { command, arguments: given, started, finished, model, base, versions, device, result } = run;
  const { sha256, tokenizer } = isRecord(base) ? base : {};
  if (typeof sha256 === 'string') files.push({ file: `base ${model}: configuration, ends of every tensor`, sha256 });
  if (typeof tokenizer === 'string') files.push({ file: `base ${model}: tokenizer`, sha256: tokenizer });
  const options = isRecord(given) ? given : {};
  const sections = [trainingSection(basename(directory), metrics as Metrics)];
  return {
    sections: sections.filter(({ blocks }) => blocks.length > 0),
    command: typeof command === 'string' ? commandLine([command], options, Object.keys(options)) : null,
    files,
    data: {
      run: directory,
      command,
      arguments: given,
      started,
      finished,
      model,
      base,
      versions,
      device,
      data,
      result,
      metrics,
    },
  };
}

/** The lines of a run; none without a file. Half a line at its end is what a killed run leaves, or one that goes on. */
async function readMetrics(directory: string): Promise<Record<string, unknown>[]> {
  const metrics: Record<string, unknown>[] = [];
  if (!(await hasFile(directory, 'metrics.jsonl'))) return metrics;
  let broken: InputError | null = null;
  for await (const { text, where } of readRows(join(directory, 'metrics.jsonl'))) {
    if (broken) throw broken;
    try {
      metrics.push(parseObject(text, where, metricsShape));
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      broken = error;
    }
  }
  return metrics;
}

async function readCard(directory: string): Promise<Part> {
  const { value } = await readJsonInside(directory, 'card.json', maxJson);
  const { title, counts, inputs, outputs } = isRecord(value) ? value : {};
  if (typeof title !== 'string' || !isRecord(counts) || !Array.isArray(inputs) || !Array.isArray(outputs)) {
    throw new InputError(`${join(directory, 'card.json')} is no card of lexalign data`);
  }
  const rows = Object.entries(counts).map(([name, count]) => [name, String(count)]);
  const files = [...inputs, ...outputs.map((file) => ({ ...file, file: join(directory, String(file.file)) }))];
  const blocks: ReportBlock[] = [{ kind: 'table', head: ['what', 'how many'], rows }];
  return { sections: [{ title: `Data: ${title}`, blocks }], command: null, files, data: value };
}

/** The commands that repeat everything, and the digests of what went in. */
function howMade(parts: readonly Part[]): ReportSection {
  const commands = [...new Set(parts.flatMap(({ command }) => command ?? []))];
  const digests = new Map(
    parts.flatMap(({ files }) => files.map(({ file, sha256 }) => [`${file} ${sha256}`, [file, sha256]])),
  );
  return {
    title: 'How it was made',
    blocks: [
      ...(commands.length > 0 ? [{ kind: 'code' as const, text: commands.join('\n') }] : []),
      { kind: 'table', head: ['file', 'SHA-256'], rows: [...digests.values()] },
    ],
  };
}

/** Chart.js, as one script for a page. */
export async function readChartLibrary(): Promise<string> {
  const main = createRequire(import.meta.url).resolve('chart.js');
  const text = (await readFileInside(dirname(main), 'chart.umd.min.js', maxJson)).toString('utf8');
  return text.replace(/\/\/# sourceMappingURL=.*$/m, '');
}
