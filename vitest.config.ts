import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Minutes each on two cores whose driver has compiled no kernel yet, the longest first. */
const longest = [
  ...['ops/attention', 'ops/vendor-numerics', 'ops/random-shapes', 'train/ppo', 'cli/ppo', 'cli/generate'],
  ...['model/memory', 'model/golden'],
];

/** Without durations of an earlier run vitest goes by the size of files, and one worker would end alone with these. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const at = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return at < 0 ? longest.length : at;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}

// Threads, not forks: on the software driver Node runs under a private loader that forked children would not inherit.
// Two workers: the software driver uses all cores by itself, but compiling, and starting commands, take one each.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'threads',
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
