import { TestRunner } from 'vitest';

/** Ends the test that runs as skipped, not as passed, and says why. */
export function skip(why: string): never {
  console.log(`skipped: ${why}`); // the default reporter counts, but gives no reason
  return TestRunner.getCurrentTest()!.context.skip(why);
}

/** Why tests of matrix units are skipped. */
export const noMatrices = 'this device has no matrix units with f32 sums';
