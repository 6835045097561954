import { join } from 'node:path';
import { readModelConfig } from '../models/index.js';
import { tensorSpecs } from '../models/tensors.js';
import { writeDirectoryAtomic, writeFileAtomic } from '../src/formats/files.js';
import { mlxFormat } from '../src/formats/mlx-writer.js';
import { nf4Format } from '../src/formats/nf4-writer.js';
import type { FloatMatrix, QuantisedFormat } from '../src/formats/quantised-format.js';
import { byteLength, type TensorDeclaration } from '../src/formats/safetensors.js';
import { type TensorPiece, writeShards } from '../src/formats/safetensors-writer.js';
import { ones, RandomBlocks, type RandomFill, weightFill } from './random-blocks.js';

export const randomFormats = ['f32', 'bf16', 'nf4', 'nf4-double', 'mlx', 'mlx-8', 'gptq', 'awq'] as const;
export type RandomFormat = (typeof randomFormats)[number];

/** A tensor to write, and what it holds. */
interface Filled extends TensorDeclaration {
  readonly fill: RandomFill | Uint8Array;
}

/**
 * Writes a checkpoint of random weights, norms one, that follow from the seed, without holding it: a new directory with
 * config.json (`config` and how the weights are quantised) and the weights with the names, types and shards of the
 * format. Matrices have the deviation 1/√in. GPTQ and AWQ are symmetric, in groups of 128.
 */
export async function writeRandomCheckpoint(
  directory: string,
  config: Readonly<Record<string, unknown>>,
  format: RandomFormat,
  options: { seed?: number; maxShardBytes?: number } = {},
): Promise<void> {
  const model = readModelConfig({ path: join(directory, 'config.json'), value: config });
  const blocks = new RandomBlocks(options.seed ?? 1);
  const { dtype, torchType, vocabularies, matrix, settings, metadata } = describe(format, blocks);
  const groups = tensorSpecs(model).map(({ name, shape, role }) => {
    const plain = { name, shape, dtype };
    if (role === 'norm') return () => [{ ...plain, fill: ones(dtype) }];
    const isVocabulary = role === 'embedding' || role === 'head';
    if (matrix && (role === 'linear' || (isVocabulary && vocabularies))) return () => matrix(plain);
    return () => [{ ...plain, fill: weightFill(dtype, shape.at(-1)!) }];
  });
  await writeDirectoryAtomic(directory, async (temporary) => {
    const declarations = groups.map((group) => group().map(({ name, shape, dtype }) => ({ name, shape, dtype })));
    await writeShards(temporary, declarations, piecesOf(groups, blocks), { ...options, metadata });
    const json = { ...config, torch_dtype: torchType, ...settings };
    await writeFileAtomic(join(temporary, 'config.json'), `${JSON.stringify(json, null, 2)}\n`);
  });
}

const pieceBytes = 8 << 20;

async function* piecesOf(groups: readonly (() => Filled[])[], blocks: RandomBlocks): AsyncGenerator<TensorPiece> {
  for (const group of groups)
    for (const { name, dtype, shape, fill } of group()) {
      if (fill instanceof Uint8Array) {
        yield { name, bytes: fill };
        continue;
      }
      const size = byteLength(dtype, shape);
      for (let position = 0; position < size; position += pieceBytes) {
        const bytes = new Uint8Array(Math.min(pieceBytes, size - position));
        blocks.fill(bytes, position, name, fill);
        yield { name, bytes };
      }
    }
}

interface FormatDescription {
  /** Of what is not quantised. */
  readonly dtype: FloatMatrix['dtype'];
  readonly torchType: string;
  /** The tensors that stand for a quantised matrix; null where none is quantised. */
  readonly matrix: ((matrix: FloatMatrix) => Filled[]) | null;
  readonly vocabularies: boolean;
  /** Keys of config.json. */
  readonly settings: Record<string, unknown>;
  readonly metadata?: Readonly<Record<string, string>>;
}

function describe(format: RandomFormat, blocks: RandomBlocks): FormatDescription {
  const none = { matrix: null, vocabularies: false, settings: {} };
  const half = { dtype: 'F16', torchType: 'float16', vocabularies: false } as const;
  switch (format) {
    case 'f32':
      return { dtype: 'F32', torchType: 'float32', ...none };
    case 'bf16':
      return { dtype: 'BF16', torchType: 'bfloat16', ...none };
    case 'nf4':
    case 'nf4-double':
      return written(nf4Format(format === 'nf4-double'), blocks);
    case 'mlx':
    case 'mlx-8':
      return written(mlxFormat(format === 'mlx' ? 4 : 8, 64), blocks);
    case 'gptq':
      return { ...half, matrix: gptq, settings: { quantization_config: gptqConfig } };
    case 'awq':
      return { ...half, matrix: awq, settings: { quantization_config: awqConfig } };
  }
}

/** Deviation of random codes: of NF4's levels, and of the whole numbers that 4 and 8 bits hold. */
const deviations = { nf4: 0.517, int4: 4.61, int8: 73.9 };

/** A format that lexalign writes itself: random codes, and scales that make its usual tensors of them. */
function written(format: QuantisedFormat, blocks: RandomBlocks): FormatDescription {
  const matrix = (plain: FloatMatrix): Filled[] => {
    const [rows, columns] = plain.shape;
    const [codes, ...others] = format.tensors(plain);
    const mean = 1 / Math.sqrt(columns) / deviations[format.packing];
    const count = Math.ceil((rows * columns) / format.group);
    let scales = new Float32Array(count);
    const fill: RandomFill = { dtype: 'F32', mean, spread: mean / 4 };
    blocks.fill(new Uint8Array(scales.buffer), 0, `${plain.name} scales`, fill);
    if (format.packing !== 'nf4') {
      const middle = format.packing === 'int4' ? -7.5 : -127.5;
      scales = Float32Array.from({ length: 2 * count }, (_, i) => scales[i >> 1] * (i % 2 ? middle : 1));
    }
    const bytes = new Map([...format.scales(plain, scales)].map((piece) => [piece.name, piece.bytes]));
    return [{ ...codes, fill: 'bits' }, ...others.map((tensor) => ({ ...tensor, fill: bytes.get(tensor.name)! }))];
  };
  const { metadata } = format;
  const vocabularies = format.packing !== 'nf4';
  return { dtype: 'BF16', torchType: 'bfloat16', matrix, vocabularies, settings: format.config('BF16'), metadata };
}

const groupSize = 128;

/** `damp_percent` and what follows it as GPTQModel writes them. */
const gptqConfig = {
  bits: 4,
  checkpoint_format: 'gptq',
  damp_percent: 0.01,
  desc_act: false,
  group_size: groupSize,
  quant_method: 'gptq',
  static_groups: false,
  sym: true,
  true_sequential: true,
};

const awqConfig = {
  bits: 4,
  group_size: groupSize,
  modules_to_not_convert: null,
  quant_method: 'awq',
  version: 'gemm',
  zero_point: true,
};

const scaleFill = (columns: number): RandomFill => {
  const mean = 1 / Math.sqrt(columns) / deviations.int4;
  return { dtype: 'F16', mean, spread: mean / 4 };
};

/** Eight codes of an input's neighbours to a word; stored zeros are one less than they mean. */
function gptq({ name, shape: [rows, columns] }: FloatMatrix): Filled[] {
  const base = name.replace(/weight$/, '');
  const groups = columns / groupSize;
  const groupOf = Int32Array.from({ length: columns }, (_, i) => Math.floor(i / groupSize));
  return [
    { name: `${base}qweight`, dtype: 'I32', shape: [columns / 8, rows], fill: 'bits' },
    { name: `${base}qzeros`, dtype: 'I32', shape: [groups, rows / 8], fill: repeated(0x77, groups * rows) },
    { name: `${base}scales`, dtype: 'F16', shape: [groups, rows], fill: scaleFill(columns) },
    { name: `${base}g_idx`, dtype: 'I32', shape: [columns], fill: new Uint8Array(groupOf.buffer) },
  ];
}

/** Eight codes of an output's neighbours to a word. */
function awq({ name, shape: [rows, columns] }: FloatMatrix): Filled[] {
  const base = name.replace(/weight$/, '');
  const groups = columns / groupSize;
  return [
    { name: `${base}qweight`, dtype: 'I32', shape: [columns, rows / 8], fill: 'bits' },
    { name: `${base}qzeros`, dtype: 'I32', shape: [groups, rows / 8], fill: repeated(0x88, groups * rows) },
    { name: `${base}scales`, dtype: 'F16', shape: [groups, rows], fill: scaleFill(columns) },
  ];
}

/** Bytes of so many zeros of 4 bits. */
function repeated(byte: number, count: number): Uint8Array {
  return new Uint8Array(count / 2).fill(byte);
}
