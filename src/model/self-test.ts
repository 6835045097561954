import { type Device, type MatrixUnits, nameMatrix } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import type { Tier } from './language-model.js';
import { attentionErrors, Check, gradientError, matmulError, type Product } from './self-test-parts.js';

/** A way to run this device: a tier, and in the tensor tier which of its matrix units. */
export interface Candidate {
  readonly tier: Tier;
  readonly matrix?: MatrixUnits;
  /** False: the forms that do without subgroups, on a device that has them. */
  readonly subgroups?: false;
}

/** Result of checking a candidate's kernels on this device. */
export interface TierCheck extends Candidate {
  /** As `nameCandidate` has it. */
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/**
 * Operands are small multiples of 1/8, exact in f16, and so are products' sums in f32: any real fault is far above the
 * first. Attention's probabilities and results are rounded to f16, as are NF4's levels before most products.
 */
const tolerance = { matmul: 1e-5, nf4: 1e-3, attention: 5e-3 };

/** "f16", "tensor on matrices of 16x16x16 of f16", "f16 without subgroups". */
export function nameCandidate({ tier, matrix, subgroups }: Candidate): string {
  if (matrix) return `tensor on matrices of ${nameMatrix(matrix)}`;
  return subgroups === false ? `${tier} without subgroups` : tier;
}

/** What the device offers, best first. Last come the forms without subgroups, in case that these compute wrongly. */
export function candidates(device: Device): Candidate[] {
  const { f16, subgroups, cpu } = device.features;
  const tensor = f16 ? device.matrixUnits.map((matrix) => ({ tier: 'tensor' as const, matrix })) : [];
  const plain = (f16 ? (['f16', 'f32'] as const) : (['f32'] as const)).map((tier) => ({ tier }));
  // On CPU cores no form but those of matrix units has any.
  const without = subgroups && !cpu ? plain.map(({ tier }) => ({ tier, subgroups: false as const })) : [];
  return [...tensor, ...plain, ...without];
}

/** Tiers that the device offers, best first. */
export function offeredTiers(device: Device): Tier[] {
  return [...new Set(candidates(device).map(({ tier }) => tier))];
}

// More than one tile each way, none whole.
const small: Product = { m: 24, n: 72, k: 40, rank: 0 };
const few: Product = { ...small, m: 3 };
/** Fills the tiles that GPUs have by default, several steps of k, and an adapter's. */
const whole: Product = { m: 250, n: 264, k: 160, rank: 16 };
/** Few rows of tiles, so that matrix units unpack as they stage. */
export const packed: Product = { m: 56, n: 136, k: 128, rank: 0 };
const fewPacked: Product = { m: 3, n: 72, k: 128, rank: 8, bias: true };
/** So long a sum that matrix units split it; of no whole steps. */
export const long: Product = { m: 24, n: 72, k: 520, rank: 16, bias: true };
/** Rows and columns of a lora gradient: several parts of rows, more than a tile of columns. */
export const gradient = { rows: 300, columns: 264, rank: 16 };

/** What is compared, how far off it is, and what is allowed. */
type Compared = readonly [what: string, error: number, allowed: number];
type Part = (check: Check) => Promise<Compared[]>;

const productPart =
  (what: string, form: 'nt' | 'nn' | 'tn', product: Product): Part =>
  async (check) => [
    [what, await matmulError(check, form, product), tolerance[product.packed === 'nf4' ? 'nf4' : 'matmul']],
  ];

const attentionPart =
  (rows: number, dim: number): Part =>
  async (check) =>
    Object.entries(await attentionErrors(check, rows, dim)).map(([what, error]) => [
      `attention ${what} at head_dim ${dim}`,
      error,
      tolerance.attention,
    ]);

const gradientPart =
  (layout: 'a' | 'b'): Part =>
  async (check) => [
    [`gradient of lora_${layout.toUpperCase()}`, await gradientError(check, layout, gradient), tolerance.matmul],
  ];

function quickParts(matrix: MatrixUnits | undefined): Part[] {
  const forms = matrix ? (['nt', 'nn', 'tn'] as const) : (['nt', 'nn'] as const);
  return [
    ...forms.map((form) => productPart(`matmul '${form}'`, form, small)),
    productPart('matmul of few rows', 'nt', few),
    attentionPart(21, 64),
  ];
}

function thoroughParts(): Part[] {
  const [forms, formats] = [['nt', 'nn'] as const, ['nf4', 'affine4'] as const];
  return [
    ...forms.map((form) => productPart(`whole tile of matmul '${form}'`, form, whole)),
    productPart('matmul with a long sum, adapter and bias', 'nt', long),
    ...formats.flatMap((format) => [
      ...forms.map((form) => productPart(`matmul '${form}' of ${format} weights`, form, { ...packed, packed: format })),
      productPart(`matmul of few rows of ${format} weights`, 'nt', { ...fewPacked, packed: format }),
    ]),
    ...(['a', 'b'] as const).map(gradientPart),
    attentionPart(130, 128), // several blocks, of the head_dim of 7-8B models
  ];
}

/**
 * Computes small products in every form, and attention forward and backward, as a candidate does, and compares them
 * with the host's: drivers with broken subgroup matrices, subgroups or f16 exist. With `thorough`, by default on GPUs, also
 * products and attention of the size that fills a tile, with packed weights and with long sums, and the gradients of an
 * adapter, which CPU drivers take long to compile. All is compiled at once.
 */
export async function checkCandidate(
  device: Device,
  kernels: KernelCache,
  candidate: Candidate,
  thorough = !device.features.cpu,
): Promise<TierCheck> {
  const name = nameCandidate(candidate);
  const parts = [...quickParts(candidate.matrix), ...(thorough ? thoroughParts() : [])];
  const results = await Promise.allSettled(
    parts.map(async (part) => {
      const check = new Check(device, kernels, candidate);
      try {
        return await part(check);
      } finally {
        check.destroy();
      }
    }),
  );
  // What WebGPU says out of band meets any part that waits, or nobody: none is left for the next candidate.
  const outOfBand = await device.finish().then(
    () => [],
    (error: Error) => [error],
  );
  const thrown = [...results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : [])), ...outOfBand];
  const error: Error | undefined = thrown.find(({ message }) => /does not compile/.test(message)) ?? thrown[0];
  if (error) return { ...candidate, name, ok: false, detail: error.message.split('\n')[0] };
  const compared = results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
  const wrong = compared.find(([, error, allowed]) => !(error < allowed));
  if (wrong) return { ...candidate, name, ok: false, detail: `${wrong[0]} is off by ${wrong[1].toExponential(1)}` };
  return { ...candidate, name, ok: true, detail: 'matmul and attention equal the CPU’s' };
}
