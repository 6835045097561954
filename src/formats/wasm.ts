// A very small WebAssembly assembler: just the instructions that src/formats/merge-kernel.ts needs, by the names of the
// specification (https://webassembly.github.io/spec/core/binary/instructions.html). Code is a list of bytes.

export type Code = readonly number[];

/** A function without results. Its locals are numbered: i32 parameters first, then other i32, then v128. */
export interface WasmFunction {
  readonly parameters: number;
  readonly addresses: number;
  readonly vectors: number;
  readonly body: Code;
}

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  /** By pages of 64 KiB; a new buffer, and views of the old one are empty. */
  grow(pages: number): void;
}

// TypeScript declares this along with the DOM, which is not here.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: object };
};

const I32 = 0x7f;
const V128 = 0x7b;

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];
const constant = (value: number): Code => [0x41, ...signed(value)];

/** local += bytes */
export const advance = (local: number, bytes: number): Code => set(local, [...get(local), ...constant(bytes), 0x6a]);

/** Repeats `body` while local < end, both addresses; at least once. */
export const loop = (local: number, end: number, body: Code): Code => {
  const again = [...get(local), ...get(end), 0x49, 0x0d, 0]; // i32.lt_u, br_if 0
  return [0x03, 0x40, ...body, ...again, 0x0b];
};

const vector = (opcode: number, ...operands: Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)];
const memory = (opcode: number, offset: number, ...operands: Code[]): Code => [
  ...vector(opcode, ...operands),
  0, // alignment: any
  ...unsigned(offset),
];

export const v128 = {
  load: (address: number, offset = 0) => memory(0x00, offset, get(address)),
  /** Four 16-bit numbers, each widened with zeros. */
  load16x4: (address: number, offset = 0) => memory(0x04, offset, get(address)),
  /** An f32 in all four lanes. */
  load32Splat: (address: number, offset = 0) => memory(0x09, offset, get(address)),
  store: (address: number, offset: number, value: Code) => memory(0x0b, offset, get(address), value),
  zero: [0xfd, 0x0c, ...new Array<number>(16).fill(0)] as Code,
  and: (a: Code, b: Code) => vector(0x4e, a, b),
  or: (a: Code, b: Code) => vector(0x50, a, b),
  /** Bits of a where the mask has ones, else of b. */
  select: (a: Code, b: Code, mask: Code) => vector(0x52, a, b, mask),
};

export const i32x4 = {
  splat: (value: number) => vector(0x11, constant(value)),
  shiftLeft: (a: Code, bits: number) => vector(0xab, a, constant(bits)),
  shiftRight: (a: Code, bits: number) => vector(0xad, a, constant(bits)),
  add: (a: Code, b: Code) => vector(0xae, a, b),
  /** Eight 16-bit numbers of two vectors whose lanes are below 2^16. */
  narrow: (a: Code, b: Code) => vector(0x86, a, b),
};

export const f32x4 = {
  notEqual: (a: Code, b: Code) => vector(0x42, a, b),
  add: (a: Code, b: Code) => vector(0xe4, a, b),
  mul: (a: Code, b: Code) => vector(0xe6, a, b),
};

/** The functions, and the `memory` they work on, which has no pages at first. */
export function instantiate<Functions>(
  functions: Readonly<Record<keyof Functions & string, WasmFunction>>,
): Functions & { readonly memory: WasmMemory } {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(assemble(functions)));
  return exports as Functions & { readonly memory: WasmMemory };
}

function assemble(functions: Readonly<Record<string, WasmFunction>>): Uint8Array {
  const all = Object.values(functions);
  const types = all.map(({ parameters }) => [0x60, ...list(new Array(parameters).fill([I32])), 0]);
  const bodies = all.map(({ addresses, vectors, body }) => {
    const locals = [
      [...unsigned(addresses), I32],
      [...unsigned(vectors), V128],
    ];
    return sized([...list(locals), ...body, 0x0b]);
  });
  const exports = Object.keys(functions).map((name, i) => [...text(name), 0x00, ...unsigned(i)]);
  const sections: [number, Code[]][] = [
    [1, types],
    [3, all.map((_, i) => unsigned(i))],
    [5, [[0, 0]]],
    [7, [...exports, [...text('memory'), 0x02, 0]]],
    [10, bodies],
  ];
  const head = [0x00, ...new TextEncoder().encode('asm'), 1, 0, 0, 0];
  return Uint8Array.from([...head, ...sections.flatMap(([id, entries]) => [id, ...sized(list(entries))])]);
}

const list = (entries: readonly Code[]): Code => [...unsigned(entries.length), ...entries.flat()];
const sized = (code: Code): Code => [...unsigned(code.length), ...code];
const text = (name: string): Code => sized([...new TextEncoder().encode(name)]);

/** LEB128 */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): number[] {
  const ends = value >= -0x40 && value < 0x40;
  return ends ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)];
}
