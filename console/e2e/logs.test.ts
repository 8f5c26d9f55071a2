import { randomUUID } from 'node:crypto';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { launch, open } from './browser';

/** Longest from posting a row to seeing it, in milliseconds. */
const VISIBLE_MS = 1_000;

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

async function post(message: string, fields: object = {}): Promise<void> {
  const event = { timestamp: new Date().toISOString(), service: 'posted', level: 'INFO', message, ...fields };
  const response = await fetch(`${url}/api/v1/logs?format=json`, { method: 'POST', body: JSON.stringify(event) });
  expect(response.status).toBe(200);
}

test('a row that is posted appears in the live log within a second', { retry: 3 }, async () => {
  const { page } = await open(browser, url);
  await page.goto('/logs?live=1&q=service:posted');
  await page.getByRole('treegrid').waitFor();
  // The log is followed when a first row arrives; the one that is timed comes after it.
  const first = `first ${randomUUID()}`;
  await expect
    .poll(async () => {
      await post(first);
      return page.getByText(first).count();
    }, { timeout: 20_000 })
    .toBeGreaterThan(0);
  const message = `timed ${randomUUID()}`;
  const begun = performance.now();
  await post(message);
  await page.getByText(message).waitFor();
  const tookMs = performance.now() - begun;
  console.log(`live: ${tookMs.toFixed(0)} ms from posting to seeing`);
  expect(tookMs).toBeLessThan(VISIBLE_MS);

  await page.getByRole('button', { name: 'Pause' }).click();
  const held = `held ${randomUUID()}`;
  await post(held);
  await page.getByRole('button', { name: /Resume \(1\)/ }).waitFor();
  expect(await page.getByText(held).count()).toBe(0);
  await page.getByRole('button', { name: /Resume/ }).click();
  await page.getByText(held).waitFor();
  await page.context().close();
});

test('brushing the histogram changes the time asked for and the URL, and back undoes it', async () => {
  const { page } = await open(browser, url);
  await page.goto('/logs?q=service:web');
  const plot = page.locator('figure .u-over');
  await plot.waitFor();
  const box = await plot.boundingBox();
  if (!box) throw new Error('expected a chart');
  const asked = page.waitForRequest((request) => /\/api\/v1\/logs\?.*from=\d{13}/.test(request.url()));
  await page.mouse.move(box.x + box.width * 0.6, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2, { steps: 6 });
  await page.mouse.up();
  await asked;
  const query = new URL(page.url()).searchParams;
  const [from, to] = [Number(query.get('from')), Number(query.get('to'))];
  expect(to - from).toBeGreaterThan(0.25 * 900_000);
  expect(to - from).toBeLessThan(0.35 * 900_000);
  expect(query.get('q')).toBe('service:web');
  await page.goBack();
  expect(new URL(page.url()).search).toBe('?q=service:web');
  await page.getByText('Last 15 minutes').waitFor();
  await page.context().close();
});

test('facets, filters of a row and completion narrow the search', async () => {
  const { page } = await open(browser, url);
  await page.goto('/logs');
  await page.getByRole('complementary', { name: 'Facets' }).getByRole('button', { name: /^inventory/ }).click();
  await page.waitForURL(/q=service%3Ainventory/);
  await page.getByRole('button', { name: 'Exclude inventory' }).click();
  await page.waitForURL(/q=-service%3Ainventory/);
  await page.keyboard.press('/');
  const field = page.getByRole('combobox', { name: 'Search' });
  await field.fill('serv');
  await page.getByRole('option', { name: /^service/ }).waitFor();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.getByRole('option', { name: /^payment/ }).waitFor();
  await field.pressSequentially('pay');
  await page.getByRole('option', { name: /^payment/ }).click();
  await page.keyboard.press('Enter');
  await page.waitForURL(/q=service%3Apayment/);
  await page.waitForFunction(() => document.querySelector('.line .service')?.textContent === 'payment');
  await page.locator('.line').first().click();
  await page.getByRole('button', { name: 'Filter by host' }).click();
  await page.waitForURL(/host%3Apayment/);
  expect(await page.locator('.line .service').first().textContent()).toBe('payment');
  await page.context().close();
});

test('a mistake in a search is explained where the rows would be', async () => {
  const { page } = await open(browser, url);
  await page.goto('/logs?q=level%3E%3Dloud');
  const alert = page.getByRole('alert').first();
  await alert.waitFor();
  expect(await alert.textContent()).toMatch(/expected a level.*column 1/s);
  await page.context().close();
});

test('a search is copied as a command and as SQL, saved, and downloaded', async () => {
  const { page } = await open(browser, url);
  await page.goto('/logs?q=service:web');
  const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
  const choose = async (name: string) => {
    await page.getByRole('button', { name: 'Share and export' }).click();
    await page.getByRole('button', { name }).click();
  };
  await choose('Copy as curl');
  await expect.poll(clipboard).toContain(`curl '${url}/api/v1/logs?from=-15m&q=service%3Aweb'`);
  await choose('Copy as SQL');
  await expect.poll(clipboard).toMatch(/^SELECT \* FROM logs\nWHERE .*"service" = 'web'/s);
  const download = page.waitForEvent('download');
  await choose('Download CSV');
  expect((await download).suggestedFilename()).toBe('logs.csv');
  await page.getByRole('button', { name: 'Saved searches' }).click();
  await page.getByLabel('Name').fill('the front');
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.goto('/logs');
  await page.getByRole('button', { name: 'Saved searches' }).click();
  await page.getByRole('button', { name: 'the front', exact: true }).click();
  await page.waitForURL(/q=service(:|%3A)web/);
  await page.context().close();
});
