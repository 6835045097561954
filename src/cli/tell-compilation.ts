import type { KernelCache } from '../gpu/kernels.js';
import { createProgress } from './progress.js';

/** Silence that a user is not to wonder about, ms. */
const patience = 3000;

/** Says what a first start waits for: a driver compiles kernels it has not met, from a tenth of a second to some seconds each. */
export function tellCompilation(kernels: Pick<KernelCache, 'onCompile'>): void {
  const bar = createProgress();
  let start = 0;
  kernels.onCompile = (done, asked) => {
    const now = performance.now();
    if (done === 0 && asked === 1) start = now;
    if (now - start <= patience) return;
    if (done < asked) return bar.update(done / asked, `compiling kernels for this driver: ${done} of ${asked}`);
    const seconds = ((now - start) / 1000).toFixed(1);
    bar.line(`Compiled ${asked} kernels in ${seconds} s; most drivers keep them for later runs.`);
  };
}
