/** Takes the pictures of docs/console.md: `npm run screenshots`, after `make console` and a build. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';

const DIRECTORY = '../docs/console';
/** Time for the demonstration to have an incident, and some quiet before and after it. */
const PLAYED_MS = 150_000;

interface Picture {
  name: string;
  path: string;
  prepare?: (page: Page) => Promise<void>;
}

async function firstTrace(url: string): Promise<string> {
  const response = await fetch(`${url}/api/v1/logs?q=service:payment+level>=error&from=-10m&limit=1`);
  const { rows } = (await response.json()) as { rows: { trace_id: string }[] };
  return rows[0]?.trace_id ?? '';
}

const PICTURES: Picture[] = [
  { name: 'logs', path: '/logs?from=-5m' },
  {
    name: 'row',
    path: '/logs?q=level%3E%3Dwarn&from=-5m',
    prepare: async (page) => page.locator('.line').nth(2).click(),
  },
  { name: 'live', path: '/logs?live=1', prepare: async (page) => page.waitForTimeout(2_000) },
  { name: 'trace', path: '/traces?id=' },
  { name: 'traces', path: '/traces?order=slowest' },
  { name: 'services', path: '/services' },
  { name: 'service', path: '/services?service=payment' },
  { name: 'alerts', path: '/alerts' },
  { name: 'patterns', path: '/patterns' },
  {
    name: 'sql',
    path: `/sql?as=chart&sql=${encodeURIComponent("SELECT date_bin(INTERVAL '5 seconds', timestamp) AS t, service, count(*) AS events\nFROM logs\nWHERE timestamp > now() - INTERVAL '5 minutes'\nGROUP BY 1, 2 ORDER BY 1")}`,
    prepare: async (page) => {
      await page.getByRole('button', { name: 'Run' }).click();
      await page.getByText(/rows in/).waitFor();
    },
  },
  { name: 'system', path: '/system', prepare: async (page) => page.waitForTimeout(7_000) },
  {
    name: 'send',
    path: '/send',
    prepare: async (page) => {
      await page.getByRole('button', { name: 'A batch' }).click();
      await page.getByRole('button', { name: 'Preview' }).click();
      await page.getByText('rejected', { exact: false }).first().waitFor();
    },
  },
];

const SIZES: { suffix: string; options: BrowserContextOptions; only?: string[] }[] = [
  { suffix: '', options: { viewport: { width: 1280, height: 800 } } },
  { suffix: '-phone', options: { viewport: { width: 390, height: 780 } }, only: ['logs', 'alerts', 'services', 'trace'] },
];

test('every page is pictured, light and dark', { timeout: 600_000 }, async () => {
  const url = inject('url');
  mkdirSync(DIRECTORY, { recursive: true });
  await new Promise((resolve) => setTimeout(resolve, PLAYED_MS));
  const browser = await launch();
  const trace = await firstTrace(url);
  expect(trace).not.toBe('');
  for (const { suffix, options, only } of SIZES) {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const { name, path, prepare } of PICTURES) {
        if (only && !only.includes(name)) continue;
        const { page } = await open(browser, url, { ...options, colorScheme });
        await page.goto(path === '/traces?id=' ? path + trace : path);
        await shown(page);
        await prepare?.(page);
        await page.waitForTimeout(500);
        const file = `${DIRECTORY}/${name}${suffix}-${colorScheme}.png`;
        await page.screenshot({ path: file });
        execFileSync('pngquant', ['--force', '--ext', '.png', '--strip', '64', file]);
        await page.context().close();
      }
    }
  }
  await browser.close();
});
