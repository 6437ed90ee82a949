import { defineConfig } from 'vitest/config';

/** Forks: each test file has a process of its own, because POSIX locks (and a crash of native code) belong to one. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    watch: false,
    // Real servers, processes that are killed, two noisy cores: slow is not broken, hanging is.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    coverage: { include: ['src/**', 'connectors/**'], reporter: ['text-summary', 'html'] },
  },
});
