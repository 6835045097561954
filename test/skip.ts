import { TestRunner } from 'vitest';
import type { Device } from '../src/gpu/device.js';
import type { Tier } from '../src/model/language-model.js';
import { offeredTiers } from '../src/model/self-test.js';

/** Ends the test that runs as skipped, not as passed, and says why. */
export function skip(why: string): never {
  console.log(`skipped: ${why}`); // the default reporter counts, but gives no reason
  return TestRunner.getCurrentTest()!.context.skip(why);
}

/** Why tests of matrix units are skipped. */
export const noMatrices = 'this device has no matrix units with f32 sums';

/** Ends the test that runs as skipped where the device has not what a tier needs. */
export function needsTier(device: Device, tier: Tier): void {
  if (!offeredTiers(device).includes(tier)) skip(`this device has no ${tier} tier`);
}
