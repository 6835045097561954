import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { InputError } from '../errors.js';
import type { MergePiece } from './merge.js';

interface Job {
  readonly piece: MergePiece;
  resolve(bytes: Uint8Array): void;
  reject(error: Error): void;
}

/** Threads that merge pieces; one core is left to reading and writing. Close it, or the process stays. */
export class MergePool {
  readonly #idle: Worker[];
  readonly #all: readonly Worker[];
  readonly #busy = new Map<Worker, Job>();
  readonly #waiting: Job[] = [];

  constructor() {
    const count = Math.max(1, Math.min(16, availableParallelism() - 1));
    this.#all = Array.from({ length: count }, () => {
      const worker = new Worker(new URL('./merge-worker.js', import.meta.url));
      worker.on('message', (reply: { bytes: Uint8Array } | { refused: string }) => this.#settle(worker, reply));
      worker.on('error', (error) => this.#fail(worker, error as Error));
      return worker;
    });
    this.#idle = [...this.#all];
  }

  /** How many pieces can be merged at once. */
  get size(): number {
    return this.#all.length;
  }

  /** Merges a piece, whose bytes go over to a thread. Throws InputError as `mergePiece`. */
  run(piece: MergePiece): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ piece, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      const [worker, job] = [this.#idle.pop()!, this.#waiting.shift()!];
      this.#busy.set(worker, job);
      worker.postMessage(job.piece, [job.piece.bytes.buffer as ArrayBuffer]);
    }
  }

  #settle(worker: Worker, reply: { bytes: Uint8Array } | { refused: string }): void {
    const job = this.#busy.get(worker)!;
    this.#busy.delete(worker);
    this.#idle.push(worker);
    if ('refused' in reply) job.reject(new InputError(reply.refused));
    else job.resolve(reply.bytes);
    this.#next();
  }

  /** A thread that died: its piece fails, and with it the whole merge. */
  #fail(worker: Worker, error: Error): void {
    this.#busy.get(worker)?.reject(error);
    this.#busy.delete(worker);
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((worker) => worker.terminate()));
  }
}
