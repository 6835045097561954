import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { ggufAdapter } from '../../models/gguf.js';
import { modelLayout } from '../../models/index.js';
import { EMBEDDING, linearShapes, tensorSpecs } from '../../models/tensors.js';
import { InputError, UsageError } from '../errors.js';
import type { Adapter } from '../formats/adapter.js';
import { openCheckpoint } from '../formats/checkpoint.js';
import { hasFile, readFileInside, writeDirectoryAtomic, writeFileAtomic } from '../formats/files.js';
import { encodeGguf, type GgufType } from '../formats/gguf.js';
import { MergePool } from '../formats/merge-pool.js';
import { writeMergedModel } from '../formats/merged-model.js';
import { writeMlxAdapter } from '../formats/mlx-adapter.js';
import { readAdapter, writeAdapter } from '../formats/peft.js';
import type { FloatDtype } from '../formats/safetensors.js';
import { type AdapterBase, requireAdapterBase } from './adapter-base.js';
import { givingUpOnInterrupt } from './interrupt.js';
import type { Command } from './main.js';
import { formatBytes } from './memory.js';
import { mergedCard } from './model-card.js';
import { configOption } from './options.js';
import { checkOutputFile } from './output-file.js';
import { createProgress } from './progress.js';
import { checkOutput } from './run-directory.js';

const options = {
  adapter: { type: 'string', demandOption: true, describe: 'PEFT directory of a LoRA adapter' },
  model: {
    type: 'string',
    describe: 'Its base model: a directory, or a name on the hub; by default the one that adapter_config.json names',
  },
  format: {
    type: 'string',
    demandOption: true,
    choices: ['peft', 'gguf', 'mlx', 'merged'],
    describe: 'An adapter for PEFT and vLLM, llama.cpp and ollama, or mlx-lm; or base and adapter as one model',
  },
  output: {
    type: 'string',
    demandOption: true,
    describe: 'What to write: a .gguf file, else a directory; must be new',
  },
  dtype: {
    type: 'string',
    choices: ['f32', 'f16', 'bf16', 'q8_0'],
    describe: 'Of the written numbers; by default f32, of a merged model f16 where the base is f16, else bf16',
  },
  dequantize: {
    type: 'boolean',
    default: false,
    describe: 'merged: unpack a quantised base; the merge is not exactly what was trained',
  },
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const exportCommand: Command = {
  command: 'export',
  describe: 'Write an adapter for another runtime, or merge it into its base model',
  options,
  computes: false,
  run: async (args) => {
    await runExport(args as Arguments);
    return 0;
  },
};

/** What a format is written from. */
interface Export {
  readonly adapter: Adapter;
  readonly adapterDirectory: string;
  readonly base: AdapterBase;
  readonly output: string;
  /** Null where none was named. */
  readonly dtype: GgufType | null;
  /** `--dequantize`. */
  readonly dequantize: boolean;
}

interface Format {
  readonly dtypes: readonly GgufType[];
  /** Of several files. */
  readonly directory: boolean;
  /** Gives what to do with the result, for the user to read. */
  write(job: Export): Promise<string>;
}

const FORMATS: Readonly<Record<string, Format>> = {
  peft: { dtypes: ['F32', 'F16', 'BF16'], directory: true, write: exportPeft },
  gguf: { dtypes: ['F32', 'F16', 'BF16', 'Q8_0'], directory: false, write: exportGguf },
  mlx: { dtypes: ['F32', 'F16', 'BF16'], directory: true, write: exportMlx },
  merged: { dtypes: ['F16', 'BF16'], directory: true, write: exportMerged },
};

async function runExport(args: Arguments): Promise<void> {
  const format = FORMATS[args.format];
  const dtype = (args.dtype?.toUpperCase() ?? null) as GgufType | null;
  if (dtype && !format.dtypes.includes(dtype)) {
    const taken = format.dtypes.map((name) => name.toLowerCase()).join(', ');
    throw new UsageError(`--dtype ${args.dtype} with --format ${args.format}: it takes ${taken}.`);
  }
  if (args.dequantize && args.format !== 'merged')
    throw new UsageError('--dequantize is for --format merged: leave it out.');
  if (format.directory) await checkOutput(args.output);
  else await checkNewFile(args.output);
  const base = await requireAdapterBase(args.adapter, args.model, { weights: args.format === 'merged' });
  const adapter = await readAdapter(args.adapter, linearShapes(base.config));
  const { adapter: adapterDirectory, output, dequantize } = args;
  const use = await format.write({ adapter, adapterDirectory, base, output, dtype, dequantize });
  console.log(`${output} written. ${use}`);
}

async function checkNewFile(file: string): Promise<void> {
  if (!file.endsWith('.gguf')) throw new UsageError(`--output ${file}: name a file that ends in .gguf.`);
  await checkOutputFile('--output', file);
  if (await stat(file).catch(() => null))
    throw new InputError(`--output ${file} exists already: name a new file, or remove it.`);
}

async function exportPeft({ adapter, adapterDirectory, base, output, dtype }: Export): Promise<string> {
  await writeDirectoryAtomic(output, async (temporary) => {
    await writeAdapter(temporary, adapter, base.name, (dtype ?? 'F32') as FloatDtype);
    if (await hasFile(adapterDirectory, 'README.md'))
      await writeFileAtomic(join(temporary, 'README.md'), await readFileInside(adapterDirectory, 'README.md', 4e6));
  });
  return `PEFT: PeftModel.from_pretrained(base, "${output}")`;
}

async function exportGguf({ adapter, adapterDirectory, base, output, dtype }: Export): Promise<string> {
  const names = { adapter: basename(resolve(adapterDirectory)), base: base.name };
  const { metadata, tensors } = ggufAdapter(base.config, adapter, dtype ?? 'F32', names);
  await writeFileAtomic(output, encodeGguf(metadata, tensors));
  return `llama.cpp: llama-cli -m BASE.gguf --lora ${output}`;
}

async function exportMlx({ adapter, base, output, dtype }: Export): Promise<string> {
  await writeDirectoryAtomic(output, (temporary) =>
    writeMlxAdapter(temporary, adapter, base.name, (dtype ?? 'F32') as FloatDtype),
  );
  return `mlx-lm: mlx_lm.generate --model BASE --adapter-path ${output}`;
}

/** A merge unpacks a quantised base on request only. */
function allowUnpacking(directory: string, dequantize: boolean): void {
  if (!dequantize)
    throw new InputError(
      `${directory} is quantised: export for a runtime that keeps base and adapter apart, or say --dequantize to unpack it.`,
    );
  console.error(
    `Warning: ${directory} is quantised. The merged model holds its weights unpacked and rounded to 16 bits, which is not what the adapter was trained on; quantised again it is further from it.`,
  );
}

async function exportMerged({ adapter, adapterDirectory, base, output, dtype, dequantize }: Export): Promise<string> {
  const checkpoint = await openCheckpoint(base.directory, modelLayout);
  const pool = new MergePool();
  const progress = createProgress();
  const started = performance.now();
  try {
    if (checkpoint.packed.size > 0) allowUnpacking(base.directory, dequantize);
    const type = dtype ?? (checkpoint.tensors.get(EMBEDDING)?.dtype === 'F16' ? 'F16' : 'BF16');
    let bytes = 0;
    const readme = await mergedCard(base.directory, adapterDirectory, type);
    await givingUpOnInterrupt((check) =>
      writeMergedModel(output, checkpoint, adapter, {
        dtype: type as 'F16' | 'BF16',
        known: new Set(tensorSpecs(base.config).map(({ name }) => name)),
        readme,
        run: (piece) => pool.run(piece),
        parallel: pool.size,
        progress: (done, total) => {
          check();
          bytes = total;
          const rate = done / ((performance.now() - started) / 1000);
          progress.update(done / total, `${formatBytes(done)} of ${formatBytes(total)} merged, ${formatBytes(rate)}/s`);
        },
      }),
    );
    progress.end();
    return `A model of ${formatBytes(bytes)} in ${type}, merged by ${pool.size} thread${pool.size === 1 ? '' : 's'} in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
  } finally {
    progress.end();
    await pool.close();
    await checkpoint.close();
  }
}
