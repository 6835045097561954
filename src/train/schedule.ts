export type SchedulerType = 'constant' | 'constant_with_warmup' | 'linear' | 'cosine';

/**
 * Factor on the learning rate at a 0-based step, as transformers' get_scheduler: s / warmup during warm-up (so step 0
 * learns nothing), then constant, linear to 0, or half a cosine to 0 at `totalSteps`; 'constant' has no warm-up.
 */
export function scheduleFactor(type: SchedulerType, step: number, warmupSteps: number, totalSteps: number): number {
  if (type === 'constant') return 1;
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  if (type === 'constant_with_warmup') return 1;
  const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  if (type === 'linear') return Math.max(0, 1 - progress);
  return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
}
