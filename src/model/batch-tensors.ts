import type { PackedBatch } from '../batch/pack.js';
import type { Device } from '../gpu/device.js';
import { createTensor, type Tensor, upload } from '../gpu/tensor.js';
import { type AttentionTree, attentionBlock } from '../ops/attention.js';
import type { EdgeTensors } from '../ops/linear-cross-entropy.js';

/** Device copies of a packed batch, at the capacity of a program. */
export class BatchTensors {
  readonly tokens: Tensor;
  readonly positions: Tensor;
  readonly subtreeEnd: Tensor;
  /** Rows with an edge, and for each row its place among them or −1. */
  readonly logitRows: Tensor;
  readonly rowToLogit: Tensor;
  readonly edges: EdgeTensors;
  /** By attention window. */
  readonly trees: ReadonlyMap<number | null, AttentionTree>;
  readonly #device: Device;

  constructor(device: Device, capacity: number, edgeCapacity: number, windows: Iterable<number | null>) {
    this.#device = device;
    const make = (label: string, dtype: 'u32' | 'i32' | 'f32', elements: number) =>
      createTensor(device, `batch.${label}`, dtype, [elements]);
    this.tokens = make('tokens', 'u32', capacity);
    this.positions = make('positions', 'u32', capacity);
    this.subtreeEnd = make('subtree_end', 'u32', capacity);
    this.logitRows = make('logit_rows', 'u32', capacity);
    this.rowToLogit = make('row_to_logit', 'i32', capacity);
    this.edges = {
      edgeStart: make('edge_start', 'u32', capacity + 1),
      edgeTarget: make('edge_target', 'u32', edgeCapacity),
      edgeWeight: make('edge_weight', 'f32', edgeCapacity),
    };
    const blocks = Math.ceil(capacity / attentionBlock);
    const pairs = (blocks * (blocks + 1)) / 2;
    this.trees = new Map(
      [...new Set(windows)].map((window) => [
        window,
        {
          positions: this.positions,
          subtreeEnd: this.subtreeEnd,
          keyStart: make('key_start', 'u32', blocks + 1),
          keyBlocks: make('key_blocks', 'u32', pairs),
          queryStart: make('query_start', 'u32', blocks + 1),
          queryBlocks: make('query_blocks', 'u32', pairs),
        },
      ]),
    );
  }

  upload(batch: PackedBatch): void {
    const put = (tensor: Tensor, data: Uint32Array | Int32Array | Float32Array) => upload(this.#device, tensor, data);
    put(this.tokens, batch.tokens);
    put(this.positions, batch.positions);
    put(this.subtreeEnd, batch.subtreeEnd);
    put(this.logitRows, batch.logitRows);
    put(this.rowToLogit, batch.rowToLogit);
    put(this.edges.edgeStart, batch.edgeStart);
    put(this.edges.edgeTarget, batch.edgeTarget);
    put(this.edges.edgeWeight, batch.edgeWeight);
    for (const [window, tree] of this.trees) {
      const lists = batch.blockLists.get(window)!;
      put(tree.keyStart, lists.keyStart);
      put(tree.keyBlocks, lists.keyBlocks);
      put(tree.queryStart, lists.queryStart);
      put(tree.queryBlocks, lists.queryBlocks);
    }
  }

  /** Every tensor once. */
  get all(): Tensor[] {
    const { tokens, positions, subtreeEnd, logitRows, rowToLogit, edges, trees } = this;
    const lists = [...trees.values()].flatMap((t) => [t.keyStart, t.keyBlocks, t.queryStart, t.queryBlocks]);
    return [tokens, positions, subtreeEnd, logitRows, rowToLogit, ...Object.values(edges), ...lists];
  }

  destroy(): void {
    for (const tensor of this.all) this.#device.destroyBuffer(tensor.buffer!);
  }
}
