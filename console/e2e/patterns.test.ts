import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

test('a template leads to the events that have it, and to no others', async () => {
  const { page, complaints } = await open(browser, url);
  await page.goto('/patterns');
  await shown(page);
  // Templates are mined from the first messages on; until then there is nothing to click.
  const link = page.getByRole('link', { name: /units of product/ }).first();
  await link.waitFor({ timeout: 60_000 });
  await link.click();
  await page.waitForURL(/template%3A/);
  await page.locator('.line').first().waitFor();
  const messages = await page.locator('.line .message').allTextContents();
  expect(messages.length).toBeGreaterThan(0);
  expect(messages.filter((message) => !message.includes('units of product'))).toEqual([]);
  expect(complaints).toEqual([]);
  await page.context().close();
});
