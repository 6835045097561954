import { defineConfig } from 'vitest/config';

// Threads, not forks: on the software driver Node runs under a private loader that forked children would not inherit.
// Two workers: the software driver uses all cores by itself, but compiling, and starting commands, take one each.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'threads',
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
