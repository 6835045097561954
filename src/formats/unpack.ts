import { NF4_LEVELS } from './nf4-writer.js';
import { readTensor, toFloat32 } from './safetensors.js';
import type { StoredMatrix, StoredScales } from './stored-matrix.js';
import type { CheckpointTensor } from './stored-tensors.js';

/** A quantised matrix [n, k] in host memory, packed; rows are unpacked as they are asked for. */
export interface UnpackedMatrix {
  /** Rows [first, first + count) as floats, [count, k]. */
  rows(first: number, count: number): Float32Array;
}

/** The code at a place of the matrix. */
type CodeAt = (row: number, column: number) => number;
/** The value of a code at a place of the matrix whose column is in this group. */
type ValueOf = (code: number, row: number, column: number, group: number) => number;

/** Reads a quantised matrix of a checkpoint whole; its numbers are what kernels/include/dequantize.wgsl makes of it. */
export async function unpackMatrix(stored: StoredMatrix): Promise<UnpackedMatrix> {
  const { k, group, columnGroup } = stored;
  const codeAt = readCodes(stored, await bytesOf(stored.codes));
  const decode = await readScales(stored);
  return {
    rows(first, count) {
      const values = new Float32Array(count * k);
      for (let row = first, at = 0; row < first + count; row++)
        for (let column = 0; column < k; column++, at++) {
          const of = columnGroup ? columnGroup[column] : Math.floor(column / group);
          values[at] = decode(codeAt(row, column), row, column, of);
        }
      return values;
    },
  };
}

async function bytesOf(tensor: CheckpointTensor): Promise<Uint8Array> {
  return readTensor(tensor.source, tensor);
}

async function wordsOf(tensor: CheckpointTensor): Promise<Uint32Array> {
  return new Uint32Array((await bytesOf(tensor)).buffer);
}

async function floatsOf(tensor: CheckpointTensor): Promise<Float32Array> {
  return toFloat32(tensor.dtype, await bytesOf(tensor));
}

function readCodes({ format, order, n, k }: StoredMatrix, bytes: Uint8Array): CodeAt {
  const words = new Uint32Array(bytes.buffer);
  switch (order) {
    case 'natural':
      if (format === 'affine8') return (row, column) => bytes[row * k + column];
      return (row, column) => (words[(row * k + column) >>> 3] >>> (4 * (column & 7))) & 15;
    case 'bitsandbytes':
      return (row, column) => (bytes[(row * k + column) >>> 1] >>> (column & 1 ? 0 : 4)) & 15;
    case 'gptq':
      return (row, column) => (words[(column >>> 3) * n + row] >>> (4 * (column & 7))) & 15;
    case 'awq':
      return (row, column) => (words[column * (n / 8) + (row >>> 3)] >>> awqShift(row)) & 15;
  }
}

/** Where row 0, 2, 4, 6, 1, 3, 5, 7 of eight stands in AWQ's words. */
function awqShift(row: number): number {
  return 16 * (row & 1) + 2 * (row & 6);
}

async function readScales(stored: StoredMatrix): Promise<ValueOf> {
  const { scales, n, k, group } = stored;
  const groups = k / group;
  switch (scales.kind) {
    case 'plain':
    case 'nested': {
      const absmax = await readAbsmax(scales);
      // Blocks run on over the ends of rows.
      return (code, row, column) => NF4_LEVELS[code] * absmax[Math.floor((row * k + column) / group)];
    }
    case 'biased': {
      const [factors, biases] = await Promise.all([floatsOf(scales.scales), floatsOf(scales.biases)]);
      return (code, row, _, of) => factors[row * groups + of] * code + biases[row * groups + of];
    }
    case 'zeroed': {
      const [factors, zeros] = await Promise.all([floatsOf(scales.scales), wordsOf(scales.zeros)]);
      const shift = (row: number) => (scales.order === 'awq' ? awqShift(row) : 4 * (row & 7));
      return (code, row, _, of) => {
        const zero = ((zeros[of * (n / 8) + (row >>> 3)] + scales.add) >>> shift(row)) & 15;
        return factors[of * n + row] * (code - zero);
      };
    }
  }
}

async function readAbsmax(scales: Extract<StoredScales, { kind: 'plain' | 'nested' }>): Promise<Float32Array> {
  if (scales.kind === 'plain') return floatsOf(scales.scales);
  const [codes, map, nested] = await Promise.all([
    bytesOf(scales.absmax),
    floatsOf(scales.map),
    floatsOf(scales.nestedAbsmax),
  ]);
  return Float32Array.from(codes, (code, i) => map[code] * nested[Math.floor(i / scales.block)] + scales.offset);
}
