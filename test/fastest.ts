/**
 * The least time of three tries, ms: a busy machine makes tries slower, never faster. Bounds on it are some twenty times what
 * an idle one takes, since one as busy took ten.
 */
export function fastest(run: () => void): number {
  const times = [0, 1, 2].map(() => {
    const start = performance.now();
    run();
    return performance.now() - start;
  });
  return Math.min(...times);
}
