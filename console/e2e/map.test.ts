import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

async function sql(query: string): Promise<unknown[][]> {
  const response = await fetch(`${url}/api/v1/sql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  return (JSON.parse(text) as { rows: unknown[][] }).rows;
}

test('the map shows who calls whom, and leads to a service', async () => {
  const calls = "SELECT 1 FROM service_map WHERE caller = 'checkout' AND callee = 'payment'";
  await expect.poll(async () => (await sql(calls)).length, { timeout: 60_000, interval: 500 }).toBeGreaterThan(0);
  const { page, complaints } = await open(browser, url);
  await page.goto('/services');
  await shown(page);
  const map = page.getByRole('region', { name: 'Service map' });
  const [web, payment] = ['web', 'payment'].map((name) => map.getByRole('link', { name: new RegExp(`^${name}`) }));
  const [left, right] = [await web?.boundingBox(), await payment?.boundingBox()];
  expect(left?.x).toBeLessThan(right?.x ?? 0);
  await payment?.click();
  await page.waitForURL(/service=payment/);
  expect(complaints).toEqual([]);
  await page.context().close();
});
