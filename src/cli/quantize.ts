import { statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { copyCompanions } from '../formats/companions.js';
import { readJsonInside, writeDirectoryAtomic, writeFileAtomic } from '../formats/files.js';
import { mlxFormat } from '../formats/mlx-writer.js';
import { nf4Format } from '../formats/nf4-writer.js';
import type { QuantisedFormat } from '../formats/quantised-format.js';
import { writeShards } from '../formats/safetensors-writer.js';
import { planQuantised, type QuantisedPlan, Quantizer, quantisedPieces } from '../model/quantize-weights.js';
import { givingUpOnInterrupt } from './interrupt.js';
import type { Command } from './main.js';
import { formatBytes } from './memory.js';
import { configOption, modelOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { createProgress } from './progress.js';
import { checkOutput } from './run-directory.js';
import { openDevice, openModel } from './session.js';

const options = {
  model: modelOptions.model,
  format: {
    type: 'string',
    choices: ['nf4', 'mlx'],
    demandOption: true,
    describe: "bitsandbytes' NF4 (for transformers and PEFT) or MLX's affine codes (for mlx-lm)",
  },
  output: { type: 'string', demandOption: true, describe: 'Directory for the checkpoint; must be new or empty' },
  bits: { type: 'number', choices: [4, 8], default: 4, describe: 'Of a code; 8 with mlx only' },
  'group-size': {
    type: 'number',
    choices: [32, 64, 128],
    default: 64,
    describe: 'Numbers that share a scale; other than 64 with mlx only',
  },
  'double-quant': { type: 'boolean', default: false, describe: 'With nf4: scales in 8 bits instead of 32' },
  device: modelOptions.device,
  'debug-gpu': modelOptions['debug-gpu'],
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const quantizeCommand: Command = {
  command: 'quantize',
  describe: 'Write a checkpoint in 4 or 8 bits that others can read',
  options,
  computes: true,
  run: async (args) => {
    await runQuantize(args as Arguments);
    return 0;
  },
};

async function runQuantize(args: Arguments): Promise<void> {
  const format = formatOf(args);
  await checkJson(args.json);
  const { checkpoint } = await openModel({ model: args.model });
  try {
    const plan = planQuantised(checkpoint, format);
    await checkOutput(args.output);
    await checkSpace(args.output, plan.bytes);
    const open = await openDevice({ device: args.device, debugGpu: args.debugGpu, tier: 'f32' });
    try {
      console.error(open.describe);
      const seconds = await write(
        args.output,
        checkpoint.dir,
        plan,
        new Quantizer(open.device, open.kernels, plan.layout),
      );
      console.log(
        `${args.output}: ${formatBytes(plan.sourceBytes)} written as ${formatBytes(plan.bytes)} in ${seconds.toFixed(1)} s.`,
      );
      const { format: name, bits, groupSize: group_size, doubleQuant: double_quant, output } = args;
      const sizes = { source_bytes: plan.sourceBytes, bytes: plan.bytes, seconds };
      await writeJson(args.json, {
        model: checkpoint.dir,
        output,
        format: name,
        bits,
        group_size,
        double_quant,
        ...sizes,
      });
    } finally {
      await open.close();
    }
  } finally {
    await checkpoint.close();
  }
}

/** Writes the checkpoint and returns the seconds it took; Ctrl-C leaves nothing behind. */
async function write(output: string, from: string, plan: QuantisedPlan, quantizer: Quantizer): Promise<number> {
  const progress = createProgress();
  const start = performance.now();
  let done = 0;
  const advance = (bytes: number) => {
    done += bytes;
    const speed = done / 1e6 / (performance.now() - start);
    const text = `quantised ${formatBytes(done)} of ${formatBytes(plan.sourceBytes)}, ${speed.toFixed(2)} GB/s`;
    progress.update(done / plan.sourceBytes, text);
  };
  try {
    await givingUpOnInterrupt((check) =>
      writeDirectoryAtomic(output, async (directory) => {
        const declarations = plan.tensors.map(({ written }) => written);
        const { metadata } = plan.format;
        const pieces = quantisedPieces(plan, quantizer, (bytes) => {
          check();
          advance(bytes);
        });
        await writeShards(directory, declarations, pieces, { metadata });
        await writeOthers(from, directory, plan);
      }),
    );
    return (performance.now() - start) / 1000;
  } finally {
    progress.end();
    quantizer.destroy();
  }
}

function formatOf(args: Arguments): QuantisedFormat {
  if (args.format === 'mlx') {
    if (args.doubleQuant) throw new UsageError('--double-quant is for --format nf4: MLX has no scales of scales.');
    return mlxFormat(args.bits as 4 | 8, args.groupSize as 32 | 64 | 128);
  }
  if (args.bits !== 4) throw new UsageError(`--bits ${args.bits} is for --format mlx: NF4 has 4 bits.`);
  if (args.groupSize !== 64)
    throw new UsageError(`--group-size ${args.groupSize} is for --format mlx: transformers reads NF4 in blocks of 64.`);
  return nf4Format(args.doubleQuant);
}

/** Refuses a disk with too little room for what is to be written. */
async function checkSpace(output: string, bytes: number): Promise<void> {
  let directory = resolve(output);
  let space = null;
  while (!space) {
    space = await statfs(directory).catch(() => null);
    directory = dirname(directory);
  }
  const free = space.bavail * space.bsize;
  if (free < bytes)
    throw new InputError(`--output ${output} needs ${formatBytes(bytes)}; its disk has ${formatBytes(free)} free.`);
}

/** config.json, which says how the weights are quantised, and what goes along. */
async function writeOthers(from: string, to: string, { format, dtype }: QuantisedPlan): Promise<void> {
  const { value } = await readJsonInside(from, 'config.json');
  const config = { ...(value as Record<string, unknown>), ...format.config(dtype) };
  await writeFileAtomic(join(to, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  await copyCompanions(from, to);
}
