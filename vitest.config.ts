import { defineConfig } from 'vitest/config';

// Threads, not forks: on the software driver Node runs under a private loader that forked children would not inherit.
// One worker: the tests share two cores with the software driver, which uses them all by itself.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'threads',
    maxWorkers: 1,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
