import type { Device } from './device.js';
import type { KernelCache } from './kernels.js';
import { BufferPool, Recorder } from './program.js';
import { Tensor } from './tensor.js';

/** Bytes to bring to the device: `read` fills the given memory, which the device sees once it has settled. */
export interface StagedRead {
  readonly bytes: number;
  readonly read: (into: Uint8Array) => Promise<void>;
}

/** Offsets of storage bindings are multiples of this. */
const align = 256;
const alignedBytes = (reads: readonly StagedRead[]) =>
  reads.reduce((sum, { bytes }) => sum + Math.ceil(bytes / align) * align, 0);

/** A buffer that the host writes, its twin that kernels read, and what is to happen once all reads into it are done. */
interface Slot {
  readonly host: GPUBuffer;
  readonly device: GPUBuffer;
  mapped: Uint8Array;
  used: number;
  reads: Promise<void>[];
  copies: { from: number; bytes: number; to: GPUBuffer; at: number }[];
  recorder: Recorder;
  /** Settles when the host may write again; never rejects. */
  free: Promise<void>;
}

/**
 * Streams bytes onto a device through a few mapped buffers that are used in turns: reads go straight into mapped
 * memory, several at a time, and kernels turn the bytes into what is wanted. Of the memory that it takes nothing is
 * left after `close`.
 */
export class Staging {
  readonly #device: Device;
  readonly #kernels: KernelCache;
  readonly #batch: GPUBuffer;
  readonly #pool: BufferPool;
  readonly #mostSlots: number;
  readonly #slotBytes: number;
  readonly #slots: Slot[] = [];
  #current: Slot | null = null;
  #turn = 0;
  #error: unknown = null;

  /** `slotBytes` is rounded up to 256; `mostSlots` are made, when first needed. */
  constructor(device: Device, kernels: KernelCache, mostSlots: number, slotBytes: number) {
    this.#device = device;
    this.#kernels = kernels;
    this.#mostSlots = mostSlots;
    this.#slotBytes = Math.ceil(slotBytes / align) * align;
    this.#batch = device.createBuffer(64, 'batch', GPUBufferUsage.UNIFORM);
    this.#pool = new BufferPool(device);
  }

  /** Bytes that the next read may have for the slot to take it at once; of a new slot where fewer than `least` are left. */
  room(least: number): number {
    const left = this.#current ? this.#slotBytes - this.#current.used : this.#slotBytes;
    return left < least ? this.#slotBytes : left;
  }

  /** Reads bytes, a multiple of 4, to `at` of a tensor as they are. */
  async copy(read: StagedRead, to: Tensor, at: number): Promise<void> {
    const [, slot] = await this.#place([read]);
    slot.copies.push({ from: slot.used - alignedBytes([read]), bytes: read.bytes, to: to.buffer!, at: to.offset + at });
  }

  /** Reads some ranges and records what is to be computed from them, given as tensors of words. */
  async convert(
    reads: readonly StagedRead[],
    record: (recorder: Recorder, raw: readonly Tensor[]) => void,
  ): Promise<void> {
    const [raw, slot] = await this.#place(reads);
    record(slot.recorder, raw);
  }

  /** Waits until everything is on the device. */
  async finish(): Promise<void> {
    if (this.#current) this.#submit(this.#current);
    this.#current = null;
    await Promise.all(this.#slots.map(({ free }) => free));
    this.#check();
    await this.#device.finish();
  }

  /** Gives all memory back, once reads that are still going on have ended. */
  async close(): Promise<void> {
    await Promise.all(this.#slots.flatMap(({ reads, free }) => [...reads, free]));
    for (const { host, device } of this.#slots) {
      this.#device.destroyBuffer(host);
      this.#device.destroyBuffer(device);
    }
    this.#device.destroyBuffer(this.#batch);
    this.#pool.destroy();
  }

  /** Finds room for reads that stay together, and starts them. */
  async #place(reads: readonly StagedRead[]): Promise<[Tensor[], Slot]> {
    const bytes = alignedBytes(reads);
    if (bytes > this.#slotBytes) throw new Error(`staging of ${this.#slotBytes} bytes: ${bytes} bytes asked for`);
    if (this.#current && this.#current.used + bytes > this.#slotBytes) {
      this.#submit(this.#current);
      this.#current = null;
    }
    const slot = this.#current ?? (await this.#next());
    this.#current = slot;
    this.#check();
    const raw = reads.map(({ bytes, read }) => {
      const into = slot.mapped.subarray(slot.used, slot.used + bytes);
      const tensor = new Tensor('staged', 'u32', [Math.ceil(bytes / 4)], slot.device, slot.used);
      slot.used += Math.ceil(bytes / align) * align;
      slot.reads.push(read(into).catch((error) => this.#fail(error)));
      return tensor;
    });
    return [raw, slot];
  }

  /** The next slot in turn, empty. */
  async #next(): Promise<Slot> {
    if (this.#slots.length < this.#mostSlots) {
      const size = this.#slotBytes;
      const { MAP_WRITE, COPY_SRC, COPY_DST, STORAGE } = GPUBufferUsage;
      const host = this.#device.createBuffer(size, 'staging', MAP_WRITE | COPY_SRC);
      const device = this.#device.createBuffer(size, 'staged', COPY_DST | STORAGE);
      const slot: Slot = {
        host,
        device,
        mapped: new Uint8Array(),
        used: 0,
        reads: [],
        copies: [],
        recorder: new Recorder(this.#kernels),
        free: Promise.resolve(),
      };
      this.#slots.push(slot);
      await this.#map(slot);
      return slot;
    }
    const slot = this.#slots[this.#turn++ % this.#mostSlots];
    await slot.free;
    return slot;
  }

  async #map(slot: Slot): Promise<void> {
    await slot.host.mapAsync(GPUMapMode.WRITE);
    Object.assign(slot, {
      mapped: new Uint8Array(slot.host.getMappedRange()),
      used: 0,
      reads: [],
      copies: [],
      recorder: new Recorder(this.#kernels),
    });
  }

  /** Runs a slot's work as soon as its reads are done, and maps it anew. */
  #submit(slot: Slot): void {
    const run = async () => {
      await Promise.all(slot.reads);
      if (this.#error) return;
      slot.host.unmap();
      const encoder = this.#device.gpu.createCommandEncoder();
      for (const { from, bytes, to, at } of slot.copies) encoder.copyBufferToBuffer(slot.host, from, to, at, bytes);
      if (slot.recorder.dispatchCount > 0) encoder.copyBufferToBuffer(slot.host, 0, slot.device, 0, slot.used);
      this.#device.gpu.queue.submit([encoder.finish()]);
      if (slot.recorder.dispatchCount > 0) {
        const program = await slot.recorder.realise(this.#device, this.#pool, this.#batch);
        program.run();
        program.destroy();
      }
      await this.#map(slot);
    };
    slot.free = run().catch((error) => this.#fail(error));
  }

  #fail(error: unknown): void {
    this.#error ??= error;
  }

  /** Throws what failed; first what the device reported, which says why a buffer could not be mapped. */
  #check(): void {
    if (!this.#error) return;
    this.#device.check();
    throw this.#error;
  }
}
