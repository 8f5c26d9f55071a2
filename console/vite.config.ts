import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

/** A running server, for `npm run dev`. */
const SERVER = process.env.THALWEG_URL ?? 'http://127.0.0.1:7070';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // Names that no index of Elasticsearch's can have begin with an underscore.
    assetsDir: '_console',
    // Inlined files would be `data:` URLs, which the policy forbids for scripts and fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': SERVER, '/metrics': SERVER, '/readyz': SERVER, '/openapi.json': SERVER } },
  test: { include: ['src/**/*.test.ts'] },
});
