import type { PackedBatch } from '../batch/pack.js';
import type { Device } from '../gpu/device.js';
import { createTensor, type Tensor, upload } from '../gpu/tensor.js';
import type { AttentionTree } from '../ops/attention.js';
import type { EdgeTensors } from '../ops/linear-cross-entropy.js';

/** The tensors that a program reads its batch from. */
export interface BatchLayout {
  readonly tokens: Tensor;
  readonly positions: Tensor;
  readonly subtreeEnd: Tensor;
  /** Rows with an edge, and for each row its place among them or −1. */
  readonly logitRows: Tensor;
  readonly rowToLogit: Tensor;
  readonly edges: EdgeTensors;
  /** By attention window. */
  readonly trees: ReadonlyMap<number | null, AttentionTree>;
}

/** For which attention a batch's lists are made. */
export interface AttentionLayout {
  /** Rows in a block. */
  readonly block: number;
  /** The layers' windows; null for none. */
  readonly windows: readonly (number | null)[];
}

type Make = (label: string, dtype: 'u32' | 'i32' | 'f32', elements: number) => Tensor;

/** Lays out a batch's tensors with whatever `make` makes of them. */
export function layOutBatch(
  make: Make,
  capacity: number,
  edgeCapacity: number,
  { block, windows }: AttentionLayout,
): BatchLayout {
  const positions = make('positions', 'u32', capacity);
  const subtreeEnd = make('subtree_end', 'u32', capacity);
  const blocks = Math.ceil(capacity / block);
  const pairs = (blocks * (blocks + 1)) / 2;
  const tree = () => ({
    block,
    positions,
    subtreeEnd,
    keys: make('key_blocks', 'u32', blocks + 1 + pairs),
    queries: make('query_blocks', 'u32', blocks + 1 + pairs),
  });
  return {
    tokens: make('tokens', 'u32', capacity),
    positions,
    subtreeEnd,
    logitRows: make('logit_rows', 'u32', capacity),
    rowToLogit: make('row_to_logit', 'i32', capacity),
    edges: {
      edgeStart: make('edge_start', 'u32', capacity + 1),
      edgeTarget: make('edge_target', 'u32', edgeCapacity),
      edgeWeight: make('edge_weight', 'f32', edgeCapacity),
    },
    trees: new Map([...new Set(windows)].map((window) => [window, tree()])),
  };
}

/** Device copies of a packed batch, at the capacity of a program. */
export class BatchTensors {
  readonly layout: BatchLayout;
  readonly #device: Device;
  readonly #all: Tensor[] = [];

  constructor(device: Device, capacity: number, edgeCapacity: number, attention: AttentionLayout) {
    this.#device = device;
    const make: Make = (label, dtype, elements) => {
      const tensor = createTensor(device, `batch.${label}`, dtype, [elements]);
      this.#all.push(tensor);
      return tensor;
    };
    this.layout = layOutBatch(make, capacity, edgeCapacity, attention);
  }

  upload(batch: PackedBatch): void {
    const put = (tensor: Tensor, data: Uint32Array | Int32Array | Float32Array) => upload(this.#device, tensor, data);
    const { tokens, positions, subtreeEnd, logitRows, rowToLogit, edges, trees } = this.layout;
    put(tokens, batch.tokens);
    put(positions, batch.positions);
    put(subtreeEnd, batch.subtreeEnd);
    put(logitRows, batch.logitRows);
    put(rowToLogit, batch.rowToLogit);
    put(edges.edgeStart, batch.edgeStart);
    put(edges.edgeTarget, batch.edgeTarget);
    put(edges.edgeWeight, batch.edgeWeight);
    for (const [window, tree] of trees) {
      const lists = batch.blockLists.get(window)!;
      put(tree.keys, lists.keys);
      put(tree.queries, lists.queries);
    }
  }

  destroy(): void {
    for (const tensor of this.#all) this.#device.destroyBuffer(tensor.buffer!);
  }
}
