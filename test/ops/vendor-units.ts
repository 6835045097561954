import type { MatrixUnits } from '../../src/gpu/device.js';

const limits = { workgroupBytes: 49152, maxInvocations: 1024 } as const;
/** Matrix units of makers whose cards are not here. */
export const vendorUnits: Readonly<Record<string, MatrixUnits>> = {
  'NVIDIA: 16x16x16, 32 lanes': {
    ...limits,
    family: 'nvidia',
    operand: 'f16',
    m: 16,
    n: 16,
    k: 16,
    subgroup: 32,
    pin: false,
  },
  'AMD: 16x16x16, pinned to 64 of 32 or 64 lanes': {
    ...limits,
    family: 'amd',
    operand: 'f16',
    m: 16,
    n: 16,
    k: 16,
    subgroup: 64,
    pin: true,
  },
  'Intel: 8x16x16, pinned to 16 of 16 or 32 lanes': {
    ...limits,
    family: 'intel',
    operand: 'f16',
    m: 8,
    n: 16,
    k: 16,
    subgroup: 16,
    pin: true,
  },
  'Intel Arc A: 8x8x16, pinned to 8 of 8 to 32 lanes': {
    ...limits,
    family: 'intel',
    operand: 'f16',
    m: 8,
    n: 8,
    k: 16,
    subgroup: 8,
    pin: true,
  },
  'Apple: 8x8x8 of f32': { ...limits, family: 'apple', operand: 'f32', m: 8, n: 8, k: 8, subgroup: 32, pin: false },
};
