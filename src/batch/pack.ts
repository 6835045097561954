import { InputError } from '../errors.js';
import { blockLists } from './blocks.js';
import { orderByPrefix, type PrefixOrder } from './order.js';
import type { BlockLists, Example, TokenTrie } from './types.js';

/**
 * Splits the examples of one optimiser step into as few micro-batches as runs of the lexicographic order allow, each
 * of at most `maxTokens` trie nodes, and makes the largest as small as that number of them permits. Gives indices of
 * examples. Throws InputError when one example alone is longer.
 */
export function packMicroBatches(examples: readonly Example[], maxTokens: number): number[][] {
  if (examples.length === 0) return [];
  const sorted = orderByPrefix(examples);
  const longest = sorted.needed.reduce((most, length) => Math.max(most, length), 0);
  if (longest > maxTokens) {
    throw new InputError(
      `a row needs ${longest} tokens, more than --micro-batch-tokens ${maxTokens}: raise it, or lower --max-length`,
    );
  }
  const fewest = cutRuns(sorted, maxTokens).length;
  let low = longest;
  let high = maxTokens;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (cutRuns(sorted, middle).length <= fewest) high = middle;
    else low = middle + 1;
  }
  const starts = cutRuns(sorted, low);
  return starts.map((start, i) => Array.from(sorted.order.subarray(start, starts[i + 1])));
}

/** Starts of the runs when each is filled up to `limit` nodes. A run's first example shares nothing with the run before. */
function cutRuns({ needed, shared }: PrefixOrder, limit: number): number[] {
  const starts = [0];
  let nodes = needed[0];
  for (let i = 1; i < needed.length; i++) {
    nodes += needed[i] - shared[i];
    if (nodes > limit) {
      starts.push(i);
      nodes = needed[i];
    }
  }
  return starts;
}

/** The smallest row count ≥ n a program is recorded for: 64, 96, 128, 192, 256, 384, … */
export function rowBucket(n: number): number {
  let bucket = 64;
  while (bucket < n) bucket = Number.isInteger(Math.log2(bucket)) ? bucket * 1.5 : (bucket / 1.5) * 2;
  return bucket;
}

/** A trie padded to the rows of a recorded program, ready for upload. */
export interface PackedBatch {
  /** Rows in use; the rest are padding: token 0 at position 0 that sees itself alone. */
  readonly rows: number;
  readonly capacity: number;
  /** [capacity] */
  readonly tokens: Uint32Array;
  /** [capacity] */
  readonly positions: Uint32Array;
  /** [capacity] */
  readonly subtreeEnd: Uint32Array;
  /** [logit rows] rows that predict something, ascending. */
  readonly logitRows: Uint32Array;
  /** [capacity] place of a row in logitRows, −1 for none. */
  readonly rowToLogit: Int32Array;
  /** [logit rows + 1] offsets into edgeTarget and edgeWeight. */
  readonly edgeStart: Uint32Array;
  /** [edges] */
  readonly edgeTarget: Uint32Array;
  /** [edges] */
  readonly edgeWeight: Float32Array;
  /** Over all of `capacity`, one for each distinct attention window (null: none). */
  readonly blockLists: ReadonlyMap<number | null, BlockLists>;
}

/** Pads a trie to `capacity` rows (≥ its nodes) and lists the blocks of `block` rows for each of the model's windows. */
export function packBatch(
  trie: TokenTrie,
  { capacity, block, windows }: { capacity: number; block: number; windows: Iterable<number | null> },
): PackedBatch {
  const rows = trie.tokens.length;
  if (rows > capacity) throw new RangeError(`a trie of ${rows} nodes does not fit ${capacity} rows`);
  const pad = (values: Uint32Array): Uint32Array => {
    const padded = new Uint32Array(capacity);
    padded.set(values);
    return padded;
  };
  const positions = pad(trie.positions);
  const subtreeEnd = pad(trie.subtreeEnd);
  for (let i = rows; i < capacity; i++) subtreeEnd[i] = i + 1;

  const rowToLogit = new Int32Array(capacity).fill(-1);
  const logitRows: number[] = [];
  const edgeStart: number[] = [];
  trie.edgeRow.forEach((row, edge) => {
    if (rowToLogit[row] >= 0) return;
    rowToLogit[row] = logitRows.length;
    logitRows.push(row);
    edgeStart.push(edge);
  });
  edgeStart.push(trie.edgeRow.length);
  const lists = new Map<number | null, BlockLists>();
  for (const window of new Set(windows))
    lists.set(window, blockLists({ positions, subtreeEnd }, capacity, block, window));
  return {
    rows,
    capacity,
    tokens: pad(trie.tokens),
    positions,
    subtreeEnd,
    logitRows: Uint32Array.from(logitRows),
    rowToLogit,
    edgeStart: Uint32Array.from(edgeStart),
    edgeTarget: trie.edgeTarget,
    edgeWeight: Float32Array.from(trie.edgeWeight),
    blockLists: lists,
  };
}
