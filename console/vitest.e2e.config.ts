import { defineConfig } from 'vitest/config';

/** Tests in a real browser against a running server; one at a time, for their times count. */
export default defineConfig({
  test: {
    include: [process.env.SCREENSHOTS ? 'e2e/screenshots.ts' : 'e2e/**/*.test.ts'],
    globalSetup: 'e2e/server.ts',
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 180_000,
  },
});
