import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import type { AxeResults } from 'axe-core';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';
import { IS_OPTIMISED } from './thalweg';

const PATHS = ['/', '/logs', '/logs?live=1', '/traces', '/services', '/services?service=payment', '/alerts', '/patterns', '/sql', '/system', '/send'];
/** Longest that a page may take, in milliseconds; with its data, if an optimised server answers. */
const LOAD_MS = 1_000;
/** Noise of a busy machine is forgiven this often. */
const NOISE = { retry: 3 };

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

describe.each(PATHS)('%s', (path) => {
  test('loads within a second, and complains of nothing', NOISE, async () => {
    const { page, complaints } = await open(browser, url);
    await page.goto(path, { waitUntil: 'commit' });
    await page.locator('main h1').first().waitFor({ state: 'attached' });
    const tookMs = await page.evaluate(() => performance.now());
    await shown(page);
    const withDataMs = await page.evaluate(() => performance.now());
    console.log(`${path}: page ${tookMs.toFixed(0)} ms, with its data ${withDataMs.toFixed(0)} ms`);
    expect(complaints).toEqual([]);
    expect(IS_OPTIMISED ? withDataMs : tookMs).toBeLessThan(LOAD_MS);
    await page.context().close();
  });

  test.each(['light', 'dark'] as const)('has no serious violation of accessibility, in %s', async (colorScheme) => {
    const { page } = await open(browser, url, { colorScheme });
    await page.goto(path);
    await shown(page);
    await page.evaluate(AXE);
    const results = await page.evaluate(() => (window as unknown as { axe: { run: () => Promise<AxeResults> } }).axe.run());
    const serious = results.violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join('\n')}`);
    expect(serious).toEqual([]);
    await page.context().close();
  });

  test('fits a phone', async () => {
    const { page } = await open(browser, url, { viewport: { width: 390, height: 780 } });
    await page.goto(path);
    await shown(page);
    const overflow = await page.evaluate(() =>
      [document.documentElement, document.querySelector('main')].map((it) => (it ? it.scrollWidth - it.clientWidth : 0)),
    );
    expect(overflow).toEqual([0, 0]);
    await page.context().close();
  });
});
