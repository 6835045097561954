// Codes of 4 bits of a matrix [n, k] as checkpoints store them.

/** Number i of a word in bits 4i and up: what kernels read, GPTQ along columns, MLX along rows. */
function word(codes: readonly number[]): number {
  return codes.reduce((sum, code, i) => sum + code * 16 ** i, 0);
}

/** Rows of k / 8 words, numbers in order. */
export function packNatural(codes: ArrayLike<number>): Uint32Array {
  return Uint32Array.from({ length: codes.length / 8 }, (_, i) =>
    word(Array.from({ length: 8 }, (_, e) => codes[8 * i + e])),
  );
}

/** bitsandbytes: bytes, the first of two numbers in the high half. */
export function packBitsandbytes(codes: ArrayLike<number>): Uint8Array {
  return Uint8Array.from({ length: codes.length / 2 }, (_, i) => codes[2 * i] * 16 + codes[2 * i + 1]);
}

/** GPTQ: [k / 8, n] words of 8 neighbouring columns. */
export function packGptq(codes: ArrayLike<number>, n: number, k: number): Uint32Array {
  return Uint32Array.from({ length: (n * k) / 8 }, (_, i) => {
    const [column, row] = [8 * Math.floor(i / n), i % n];
    return word(Array.from({ length: 8 }, (_, e) => codes[row * k + column + e]));
  });
}

/** AWQ's GEMM layout: [k, n / 8] words of 8 neighbouring rows, in this order. */
export function packAwq(codes: ArrayLike<number>, n: number, k: number): Uint32Array {
  return Uint32Array.from({ length: (n * k) / 8 }, (_, i) => {
    const [column, row] = [Math.floor(i / (n / 8)), 8 * (i % (n / 8))];
    return word([0, 2, 4, 6, 1, 3, 5, 7].map((e) => codes[(row + e) * k + column]));
  });
}
