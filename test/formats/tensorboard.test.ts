import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { InputError } from '../../src/errors.js';
import { crc32c, EventWriter } from '../../src/formats/tensorboard.js';

const root = mkdtempSync(join(tmpdir(), 'lexalign-events-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** CRC-32C bit by bit, from its polynomial 0x1edc6f41 read backwards. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1n) ^ ((crc & 1n) * 0x82f63b78n);
  }
  return Number(crc ^ 0xffffffffn);
}

function unmask(masked: number): number {
  const rotated = (BigInt(masked) - 0xa282ead8n) & 0xffffffffn;
  return Number(((rotated << 15n) | (rotated >> 17n)) & 0xffffffffn);
}

/** Splits a TFRecord file, checking both checksums of each record. */
function readRecords(bytes: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(unmask(bytes.readUInt32LE(at + 8))).toBe(slowCrc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(slowCrc32c(data));
    records.push(data);
    at += 16 + length;
  }
  return records;
}

/** Fields of a protobuf message by number: varints as bigint, fixed ones and bytes as they lie. */
function readMessage(bytes: Buffer): Map<number, (bigint | Buffer)[]> {
  const fields = new Map<number, (bigint | Buffer)[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(bytes[at++]);
      value |= (byte & 127n) << shift;
      if (byte < 128n) return value;
    }
  };
  const take = (length: number) => {
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const value = [varint, () => take(8), () => take(Number(varint())), null, null, () => take(4)][key & 7]!();
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  return fields;
}

const only = (fields: Map<number, (bigint | Buffer)[]>, field: number): Buffer => {
  expect(fields.get(field)).toHaveLength(1);
  return fields.get(field)![0] as Buffer;
};

function readEvent(record: Buffer) {
  const event = readMessage(record);
  const values = event.has(5)
    ? (readMessage(only(event, 5)).get(1) as Buffer[]).map((value) => {
        const fields = readMessage(value);
        return [only(fields, 1).toString(), only(fields, 2).readFloatLE()];
      })
    : null;
  return {
    time: only(event, 1).readDoubleLE(),
    step: event.get(2)?.[0] ?? 0n,
    version: event.get(3)?.toString() ?? null,
    values,
  };
}

test('crc32c gives its check value and RFC 3720’s', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
});

test('an event file holds its version, then each step’s scalars', async () => {
  const directory = join(root, 'run', 'tensorboard');
  const writer = await EventWriter.create(directory, 1_700_000_000.5);
  const waits = [
    writer.scalars(0, { loss: 2.5, learning_rate: 0 }, 1_700_000_001),
    writer.scalars(300, { 'eval/loss': -1e-3 }, 1_700_000_002.25),
    writer.scalars(2 ** 40, { π: Number.NaN, big: 3e38 }, 1_700_000_003),
  ];
  await Promise.all(waits);
  await writer.close();
  const names = readdirSync(directory);
  expect(names).toHaveLength(1);
  expect(names[0]).toMatch(/^events\.out\.tfevents\.1700000000\..+/);
  const events = readRecords(readFileSync(join(directory, names[0]))).map(readEvent);
  const scalar = (time: number, step: bigint, values: [string, number][]) => ({ time, step, version: null, values });
  expect(events).toEqual([
    { time: 1_700_000_000.5, step: 0n, version: 'brain.Event:2', values: null },
    scalar(1_700_000_001, 0n, [
      ['loss', 2.5],
      ['learning_rate', 0],
    ]),
    scalar(1_700_000_002.25, 300n, [['eval/loss', Math.fround(-1e-3)]]),
    scalar(1_700_000_003, 2n ** 40n, [
      ['π', Number.NaN],
      ['big', Math.fround(3e38)],
    ]),
  ]);
});

test('an event file can be read while it grows, and none is written over', async () => {
  const directory = join(root, 'growing');
  const writer = await EventWriter.create(directory, 5);
  await writer.scalars(1, { loss: 1 }, 6);
  const file = join(directory, readdirSync(directory)[0]);
  expect(readRecords(readFileSync(file))).toHaveLength(2);
  await expect(EventWriter.create(directory, 5)).rejects.toThrow(/exists already/);
  await writer.scalars(2, { loss: 0.5 }, 7);
  await writer.close();
  expect(readRecords(readFileSync(file))).toHaveLength(3);
});

test('a full disk is told once, in a sentence', async () => {
  const directory = join(root, 'full');
  const writer = await EventWriter.create(directory, 5);
  const handle = await open(join(directory, readdirSync(directory)[0]));
  const full = Object.assign(new Error('write'), { code: 'ENOSPC' });
  const spy = vi.spyOn(Object.getPrototypeOf(handle), 'appendFile').mockRejectedValue(full);
  await handle.close();
  const failed = writer.scalars(1, { loss: 1 }, 6);
  await expect(failed).rejects.toThrow(InputError);
  await expect(failed).rejects.toThrow(/events\.out\S+ cannot be written: the disk is full/);
  spy.mockRestore();
  await writer.close();
});
