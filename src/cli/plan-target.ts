import type { DeviceShape } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernels.js';
import type { Tier } from '../model/language-model.js';
import { kernelSource } from './kernel-source.js';
import type { PlanTarget } from './memory.js';

/** A GPU as most workstations have it, through Vulkan: the sizes that decide a plan, not a card of a certain make. */
const typicalGpu: DeviceShape = {
  features: { f16: true, timestamps: true, subgroups: true, cpu: false },
  matrixUnits: [
    {
      family: 'other',
      operand: 'f16',
      m: 16,
      n: 16,
      k: 16,
      subgroup: 32,
      pin: false,
      workgroupBytes: 32 << 10,
      maxInvocations: 1024,
    },
  ],
  maxBinding: 2 ** 31 - 256,
  uniformAlign: 256,
};

/** To plan for a GPU that is not here. */
export function typicalTarget(tier: string): PlanTarget & { describe: string } {
  const chosen = tier === 'auto' ? 'tensor' : (tier as Tier);
  return {
    device: typicalGpu,
    kernels: new KernelCache(null, kernelSource()),
    tier: chosen,
    tuning: new Map(),
    describe: `Device: a typical GPU, which need not be here (bindings of 2 GiB, matrices of 16x16x16), tier ${chosen}`,
  };
}
