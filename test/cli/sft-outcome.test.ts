import { expect, it } from 'vitest';
import { describeOutcome } from '../../src/cli/sft.js';

it('ends in a sentence that tells losses and skipped steps, or that nothing was learnt', () => {
  const result = { outcome: 'finished', steps: 3, skippedSteps: 0, trainLoss: 1.5, evalLoss: null } as const;
  expect(describeOutcome(result)).toBe('Finished after 3 steps: train loss 1.5000.');
  expect(describeOutcome({ ...result, skippedSteps: 1, evalLoss: 2 })).toBe(
    'Finished after 3 steps: train loss 1.5000, eval loss 2.0000, 1 steps skipped for non-finite gradients.',
  );
  const none = describeOutcome({ ...result, outcome: 'interrupted', skippedSteps: 3, trainLoss: Number.NaN });
  expect(none).toMatch(/^Interrupted after 3 steps: nothing was learnt, .* --tier f32/);
});
