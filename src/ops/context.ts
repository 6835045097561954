import type { MatrixUnits } from '../gpu/device.js';
import type { Recorder } from '../gpu/program.js';
import type { AttentionSettings } from './attention.js';
import type { MatmulProblem, MatmulSettings } from './matmul-tile.js';

/** What an operation needs to know to record itself. */
export interface OpContext {
  readonly recorder: Recorder;
  /** Element type of matmul operands and saved activations: f16 where the tier has it. */
  readonly operand: 'f16' | 'f32';
  /** The device's shaders run on CPU cores: matmuls take the form without workgroup memory. */
  readonly cpu: boolean;
  /** Shaders may add over subgroups. */
  readonly subgroups?: boolean;
  /** Largest range of one binding, bytes; unlimited unless given. */
  readonly maxBinding?: number;
  /** Matrix units to use in the tensor tier; absent in the others. */
  readonly matrix?: MatrixUnits;
  /** Settings that were measured on this device for a product; undefined where none were. */
  readonly tuned?: (problem: MatmulProblem) => MatmulSettings | undefined;
  /** Likewise for attention over heads of this size. */
  readonly tunedAttention?: (headDim: number) => AttentionSettings | undefined;
  /**
   * Matmuls take the tiles of so many rows, whatever they have: the order of a sum depends on the tile alone, so a row
   * comes out the same in any batch. Tensors have at least so many rows.
   */
  readonly tileRows?: number;
}

/** Workgroups for a one-dimensional grid, folded as kernels/include/fold.wgsl unfolds it. */
export function grid(workgroups: number): [number, number] {
  return workgroups <= 32768 ? [Math.max(1, workgroups), 1] : [32768, Math.ceil(workgroups / 32768)];
}

/** Which count of the batch tells how many rows are live: trie nodes, or rows with an edge. */
export type RowCount = 'batch.rows' | 'batch.logitRows';
