/**
 * Seeded random numbers that are the same on every machine: xoshiro128** (Blackman and Vigna 2018, "Scrambled linear
 * pseudorandom number generators"), its state filled by splitmix64 as its authors advise.
 */
export interface Random {
  /** The next 32 bits, 0 to 2^32 − 1. */
  uint32(): number;
  /** An integer of 0 … n − 1, n at most 2^32; uneven by at most n / 2^32. */
  below(n: number): number;
}

const MASK64 = (1n << 64n) - 1n;

/** The first `count` outputs of splitmix64 from `seed`. */
export function splitmix64(seed: bigint, count: number): bigint[] {
  let state = seed & MASK64;
  return Array.from({ length: count }, () => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK64;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK64;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK64;
    return z ^ (z >> 31n);
  });
}

/** xoshiro128** from four 32-bit words, not all zero. */
export function xoshiro128(state: readonly [number, number, number, number]): Random {
  let [a, b, c, d] = state;
  const uint32 = () => {
    const x = Math.imul(b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return { uint32, below: (n) => Math.floor((uint32() / 2 ** 32) * n) };
}

/** A generator of its own for an integer seed of at most 2^53 in size. */
export function createRandom(seed: number): Random {
  const [first, second] = splitmix64(BigInt(seed), 2);
  const low = (x: bigint) => Number(x & 0xffffffffn);
  return xoshiro128([low(first), low(first >> 32n), low(second), low(second >> 32n)]);
}

/** The seed, below 2^53, of a sample of the prompt of this index in a run of this seed (both below 2^32). */
export function sequenceSeed(seed: number, index: number, sample = 0): number {
  const [own] = splitmix64((BigInt(seed) << 32n) | BigInt(index), 1);
  return Number(splitmix64(own ^ BigInt(sample), 1)[0] >> 11n);
}

/** A shuffled copy (Fisher and Yates). */
export function shuffle<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** A permutation of 0 … n − 1 without fixed points, n at least 2 (Sattolo's algorithm: one cycle through all). */
export function derange(n: number, random: Random): number[] {
  const out = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i);
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}
