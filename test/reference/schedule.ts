export type Schedule = 'constant' | 'constant_with_warmup' | 'linear' | 'cosine';

/**
 * Factor on the learning rate at 0-based `step` of `totalSteps`, as transformers' get_scheduler: 1 where 'constant', else
 * step / warmupSteps at first (so 0 at step 0), then 1, a line to 0 or half a cosine to 0.
 */
export function scheduleFactor(schedule: Schedule, step: number, warmupSteps: number, totalSteps: number): number {
  if (schedule === 'constant') return 1;
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  const left = Math.max(1, totalSteps - warmupSteps);
  if (schedule === 'linear') return Math.max(0, (totalSteps - step) / left);
  if (schedule === 'cosine') return Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmupSteps)) / left)));
  return 1;
}
