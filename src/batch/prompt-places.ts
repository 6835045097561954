import { orderByPrefix } from './order.js';
import { buildTrie } from './trie.js';
import { type Example, unsupervised } from './types.js';

/** Where a prompt's tokens but the last lie, and how many of them, from the first on, were already there. */
export interface PromptPath {
  /** [tokens − 1] */
  readonly places: Uint32Array;
  readonly stored: number;
}

/**
 * Places in a KV cache for the prompts of one run. Each distinct prefix is stored once, from the first sequence that
 * needs it to the end of the last. A prompt's last token is left out: its sequence stores it among its own.
 *
 * Sequences are admitted in `order`, lexicographic: then what is kept for those to come is always the beginning of the
 * next one, so that it finds room at the latest when all others have ended, if the longest prompt fits.
 */
export class PromptPlaces {
  /** Indices of the prompts in the order of their admission. */
  readonly order: Uint32Array;
  /** Distinct prefixes of all prompts: the places of a cache that never forgets. */
  readonly nodes: number;
  readonly #nodesOf: readonly Uint32Array[];
  /** Sequences that go through a node and have not ended. */
  readonly #remaining: Uint32Array;
  /** Place of a node, −1 while it has none. */
  readonly #placeOf: Int32Array;
  readonly #free: number[];

  constructor(prompts: readonly Int32Array[], capacity: number) {
    const examples = prompts.map(withoutLast);
    const trie = buildTrie(examples);
    this.order = orderByPrefix(examples).order;
    this.nodes = trie.tokens.length;
    this.#nodesOf = trie.nodeOf.map((nodes) => nodes.subarray(0, nodes.length - 1));
    this.#remaining = new Uint32Array(this.nodes);
    for (const nodes of this.#nodesOf) for (const node of nodes) this.#remaining[node]++;
    this.#placeOf = new Int32Array(this.nodes).fill(-1);
    this.#free = Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
  }

  /** Places not in use. */
  get free(): number {
    return this.#free.length;
  }

  /** Gives a sequence its places; null where there are too few, and nothing has changed. */
  admit(sequence: number): PromptPath | null {
    const nodes = this.#nodesOf[sequence];
    const missing = nodes.findIndex((node) => this.#placeOf[node] < 0);
    const stored = missing < 0 ? nodes.length : missing;
    if (nodes.length - stored > this.#free.length) return null;
    for (const node of nodes.subarray(stored)) this.#placeOf[node] = this.#free.pop()!;
    return { places: Uint32Array.from(nodes, (node) => this.#placeOf[node]), stored };
  }

  /** Gives back what no other sequence needs. */
  release(sequence: number): void {
    for (const node of this.#nodesOf[sequence]) {
      if (--this.#remaining[node] > 0) continue;
      this.#free.push(this.#placeOf[node]);
      this.#placeOf[node] = -1;
    }
  }
}

/** Distinct prefixes of prompts, the last tokens left out. */
export function countPromptPlaces(prompts: readonly Int32Array[]): number {
  return buildTrie(prompts.map(withoutLast)).tokens.length;
}

/** A made-up target in the last token's place makes the trie hold all tokens before it. */
function withoutLast(prompt: Int32Array): Example {
  const labels = new Int32Array(prompt.length).fill(unsupervised);
  labels[prompt.length - 1] = 0;
  return { ids: prompt, labels, weight: 1 };
}
