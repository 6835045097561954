import { PromptPlaces } from '../batch/prompt-places.js';
import { noSource, putRow } from '../ops/decode-rows.js';
import type { RolloutSize } from './rollout-program.js';

/** A sequence to sample. Prompts that are equal or start alike are computed and stored once. */
export interface RolloutRequest {
  readonly prompt: Int32Array;
  /** Of this sequence's random numbers, an integer from 0 to below 2^53; `sequenceSeed` makes them. */
  readonly seed: number;
}

/** A sequence that has been admitted. */
export interface Sequence {
  readonly index: number;
  readonly request: RolloutRequest;
  readonly slot: number;
  /** Places of its prompt, the last token apart. */
  readonly places: Uint32Array;
  /** How many tokens of prompts must have been scheduled before its first step. */
  readonly ready: number;
  /** Steps scheduled: tokens drawn, or being drawn. */
  steps: number;
  /** Its row in the last of them. */
  row: number;
  /** Its slot is given back. */
  ended: boolean;
}

/** Rows to compute: one for each sequence, then tokens of prompts. */
export interface RolloutStep {
  readonly sequences: readonly Sequence[];
  readonly promptTokens: number;
  /** Tokens that the sequences see, their own included. */
  readonly seen: number;
}

/**
 * Which rows are computed when. Sequences wait for a slot and for places of their prompt; tokens of prompts that no one
 * has computed yet fill up the steps of the sequences that go. A sequence's first row is its prompt's last token.
 */
export class RolloutSchedule {
  readonly #size: RolloutSize;
  readonly #requests: readonly RolloutRequest[];
  readonly #places: PromptPlaces;
  readonly #slots: number[];
  #admitted = 0;
  #going: Sequence[] = [];
  /** Sequences with tokens of their prompt to compute, from position `next` on. */
  readonly #prompts: { readonly sequence: Sequence; next: number }[] = [];
  /** Tokens of prompts ever put in there, and ever taken out. */
  #wanted = 0;
  #scheduled = 0;

  constructor(size: RolloutSize, requests: readonly RolloutRequest[]) {
    this.#size = size;
    this.#requests = requests;
    this.#places = new PromptPlaces(
      requests.map(({ prompt }) => prompt),
      size.promptPlaces,
    );
    this.#slots = Array.from({ length: size.slots }, (_, i) => size.slots - 1 - i);
  }

  /** Gives slots to sequences that wait, as long as there is room. */
  admit(): Sequence[] {
    const admitted: Sequence[] = [];
    while (this.#admitted < this.#requests.length && this.#slots.length > 0) {
      const index = this.#places.order[this.#admitted];
      const path = this.#places.admit(index);
      if (!path) break;
      const { places, stored } = path;
      this.#wanted += places.length - stored;
      const sequence = {
        index,
        request: this.#requests[index],
        slot: this.#slots.pop()!,
        places,
        ready: this.#wanted,
        steps: 0,
        row: noSource,
        ended: false,
      };
      if (stored < places.length) this.#prompts.push({ sequence, next: stored });
      this.#going.push(sequence);
      this.#admitted++;
      admitted.push(sequence);
    }
    return admitted;
  }

  /** Writes the next step into the table [stepRows]; null where there is nothing to compute before a sequence ends. */
  next(table: Uint32Array): RolloutStep | null {
    const { stepRows, maxNewTokens } = this.#size;
    // A step has more rows than there are slots, so prompts go on however many sequences do.
    const promptTokens = Math.min(this.#wanted - this.#scheduled, stepRows - this.#going.length);
    const sequences = this.#going.filter(({ ready }) => ready <= this.#scheduled + promptTokens);
    let seen = 0;
    sequences.forEach((sequence, i) => {
      const { request, places } = sequence;
      const length = request.prompt.length + sequence.steps;
      const token = request.prompt[request.prompt.length - 1];
      this.#put(table, i, sequence, { shared: places.length, length, token, source: sequence.row });
      seen += length;
    });
    for (let i = 0; i < promptTokens; i++) {
      const first = this.#prompts[0];
      const { sequence } = first;
      const position = first.next++;
      if (first.next === sequence.places.length) this.#prompts.shift();
      const token = sequence.request.prompt[position];
      const row = { shared: position + 1, length: position + 1, token, source: noSource };
      this.#put(table, sequences.length + i, sequence, row);
    }
    this.#scheduled += promptTokens;
    sequences.forEach((sequence, i) => {
      sequence.row = i;
      sequence.steps++;
      if (sequence.steps === maxNewTokens) this.end(sequence);
    });
    return sequences.length + promptTokens > 0 ? { sequences, promptTokens, seen } : null;
  }

  #put(
    table: Uint32Array,
    i: number,
    { slot, request: { seed } }: Sequence,
    row: { shared: number; length: number; token: number; source: number },
  ): void {
    const own = this.#size.promptPlaces + slot * this.#size.maxNewTokens;
    putRow(table, i, { slot, own, seed, ...row });
  }

  /** Gives back a sequence's slot and places to what is scheduled from now on. */
  end(sequence: Sequence): void {
    if (sequence.ended) return;
    sequence.ended = true;
    this.#going = this.#going.filter((other) => other !== sequence);
    this.#slots.push(sequence.slot);
    this.#places.release(sequence.index);
  }

  /** Whether no sequence waits or goes any more. */
  get done(): boolean {
    return this.#admitted === this.#requests.length && this.#going.length === 0;
  }
}
