// Event files of TensorBoard, scalars only: records of TFRecord (length, CRC, bytes, CRC), each an Event message:
// https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/{event,summary}.proto
// https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details

import { type FileHandle, open } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../errors.js';
import { explainFileError, makeDirectory } from './files.js';

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli, RFC 3720 appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** TFRecord's masking, so that a CRC over data that holds CRCs stays a good one. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function record(data: Uint8Array): Uint8Array {
  const framed = Buffer.alloc(data.length + 16);
  framed.writeBigUInt64LE(BigInt(data.length), 0);
  framed.writeUInt32LE(maskedCrc(framed.subarray(0, 8)), 8);
  framed.set(data, 12);
  framed.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return framed;
}

// Wire types of protobuf.
const varintField = 0;
const fixed64Field = 1;
const bytesField = 2;
const fixed32Field = 5;

function key(field: number, wireType: number): Buffer {
  return varint((field << 3) | wireType);
}

/** A whole number of at least 0. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function delimited(field: number, content: Uint8Array): Buffer {
  return Buffer.concat([key(field, bytesField), varint(content.length), content]);
}

function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([key(field, fixed64Field), bytes]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(field, fixed32Field), bytes]);
}

/** Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5 } */
function versionEvent(wallTime: number): Buffer {
  return Buffer.concat([double(1, wallTime), delimited(3, Buffer.from('brain.Event:2'))]);
}

/** SessionLog session_log = 7 with its START: TensorBoard forgets what older files say of this step and later ones. */
function restartEvent(step: number, wallTime: number): Buffer {
  const start = Buffer.concat([key(1, varintField), varint(1)]);
  return Buffer.concat([double(1, wallTime), key(2, varintField), varint(step), delimited(7, start)]);
}

/** Summary { repeated Value value = 1 }, Value { string tag = 1; float simple_value = 2 } */
function scalarsEvent(step: number, values: Readonly<Record<string, number>>, wallTime: number): Buffer {
  const summary = Object.entries(values).map(([tag, value]) =>
    delimited(1, Buffer.concat([delimited(1, Buffer.from(tag)), float(2, value)])),
  );
  return Buffer.concat([double(1, wallTime), key(2, varintField), varint(step), delimited(5, Buffer.concat(summary))]);
}

function refuse(path: string, error: NodeJS.ErrnoException): never {
  if (error.code === 'EEXIST') throw new InputError(`${path} exists already: another run writes there`);
  return explainFileError(path, error);
}

/** Appends scalars to an event file as a run goes on; each call's record is in the file when its promise settles. Throws InputError for what the user can mend. */
export class EventWriter {
  readonly #file: FileHandle;
  readonly #path: string;
  /** Records go in the order of calls, also where a caller does not wait. */
  #last: Promise<void> = Promise.resolve();

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /**
   * Starts a new file in a directory, made where missing, as TensorBoard looks for it; time in seconds since 1970. A
   * run that goes on after step `resumed` has a file of its own for what follows.
   */
  static async create(directory: string, startSeconds = Date.now() / 1000, resumed?: number): Promise<EventWriter> {
    await makeDirectory(directory);
    const end = resumed === undefined ? '' : `.${resumed}`;
    const name = `events.out.tfevents.${String(Math.floor(startSeconds)).padStart(10, '0')}.${hostname()}${end}`;
    const path = join(directory, name);
    const writer = new EventWriter(path, await open(path, 'wx').catch((error) => refuse(path, error)));
    const first = [versionEvent(startSeconds)];
    if (resumed !== undefined) first.push(restartEvent(resumed + 1, startSeconds));
    await Promise.all(first.map((event) => writer.#append(event))).catch(async (error) => {
      await writer.close();
      throw error;
    });
    return writer;
  }

  /** One value a tag; `step` a whole number of at least 0. */
  scalars(step: number, values: Readonly<Record<string, number>>, wallTimeSeconds = Date.now() / 1000): Promise<void> {
    return this.#append(scalarsEvent(step, values, wallTimeSeconds));
  }

  #append(event: Uint8Array): Promise<void> {
    this.#last = this.#last.then(() =>
      this.#file.appendFile(record(event)).catch((error) => explainFileError(this.#path, error)),
    );
    return this.#last;
  }

  /** Waits for what is being written. A record that failed has told its caller, and is not told again. */
  async close(): Promise<void> {
    await this.#last.catch(() => undefined);
    await this.#file.close();
  }
}
