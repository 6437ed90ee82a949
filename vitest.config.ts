import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The fuzz takes as long as a quarter of all others: begun last, it would run alone at the end. */
const LONGEST = '/test/fuzz/';

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLongest = ({ moduleId }: TestSpecification): boolean => moduleId.includes(LONGEST);
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))];
  }
}

/** Forks: each test file has a process of its own, because POSIX locks (and a crash of native code) belong to one. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // On two cores the default is one, and tests wait for servers, disks and processes for half of their time.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    watch: false,
    // Real servers, processes that are killed, two noisy cores: slow is not broken, hanging is.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    coverage: { include: ['src/**', 'connectors/**'], reporter: ['text-summary', 'html'] },
  },
});
