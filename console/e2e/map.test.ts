import { randomBytes } from 'node:crypto';
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

/** A server that keeps no map of its own gets one of what spans of clients say. */
const STAND_IN = `CREATE VIEW service_map AS
  SELECT service AS caller, name AS callee, count(*) AS calls,
    count(*) FILTER (WHERE status_code = 'ERROR') AS errors,
    count(*) FILTER (WHERE status_code = 'ERROR') / CAST(count(*) AS DOUBLE) AS error_rate,
    max(duration_ms) AS p50_ms, max(duration_ms) AS p95_ms, max(duration_ms) AS p99_ms
  FROM spans WHERE kind = 'CLIENT' GROUP BY tumble(INTERVAL '1 minute'), service, name`;

async function sendCall(caller: string, callee: string): Promise<void> {
  const now = BigInt(Date.now()) * 1_000_000n;
  const span = {
    traceId: randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    name: callee,
    kind: 3,
    startTimeUnixNano: String(now - 20_000_000n),
    endTimeUnixNano: String(now),
    status: { code: callee === 'payment' ? 2 : 1 },
  };
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: caller } }] };
  const response = await fetch(`${url}/v1/traces`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] }),
  });
  expect(response.status).toBe(200);
}

test('the map shows who calls whom, and leads to a service', async () => {
  const known = await sql("SELECT 1 FROM information_schema.tables WHERE table_name = 'service_map'");
  if (known.length === 0) {
    await sql(STAND_IN);
    for (const [caller, callee] of [['web', 'checkout'], ['checkout', 'payment'], ['web', 'catalog']] as const) {
      await sendCall(caller, callee);
    }
  }
  const calls = "SELECT 1 FROM service_map WHERE caller = 'checkout' AND callee = 'payment'";
  await expect.poll(async () => (await sql(calls)).length, { timeout: 60_000, interval: 500 }).toBeGreaterThan(0);
  const { page, complaints } = await open(browser, url);
  await page.goto('/services');
  await shown(page);
  const map = page.getByRole('region', { name: 'Service map' });
  const [web, payment] = ['web', 'payment'].map((name) => map.getByRole('link', { name: new RegExp(`^${name},`) }));
  const [left, right] = [await web?.boundingBox(), await payment?.boundingBox()];
  expect(left?.x).toBeLessThan(right?.x ?? 0);
  await payment?.click();
  await page.waitForURL(/service=payment/);
  expect(complaints).toEqual([]);
  await page.context().close();
});
