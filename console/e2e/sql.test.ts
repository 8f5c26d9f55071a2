import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

test('a query is written with completion, asked, drawn, explained and kept', async () => {
  const { page, complaints } = await open(browser, url);
  await page.goto('/sql');
  await shown(page);
  const editor = page.getByRole('textbox', { name: 'SQL' });
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.type('SELECT window_start, service, requests FROM service_hea', { delay: 10 });
  await page.getByRole('option', { name: /service_health/ }).first().waitFor();
  await page.keyboard.press('Enter');
  await page.keyboard.type(' ORDER BY 1');
  await page.keyboard.press('Control+Enter');
  await page.getByText(/\d+ rows in/).waitFor();
  expect(new URL(page.url()).searchParams.get('sql')).toBe(
    'SELECT window_start, service, requests FROM service_health ORDER BY 1',
  );
  await page.getByRole('columnheader', { name: /requests/ }).waitFor();
  await page.getByRole('button', { name: 'Chart' }).click();
  await page.getByRole('img', { name: 'The answer over time' }).waitFor();
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByRole('region', { name: 'Plan' }).getByText('physical_plan').waitFor();
  await page.getByRole('button', { name: 'History' }).click();
  await page.getByRole('button', { name: /^SELECT window_start/ }).click();
  expect(await editor.textContent()).toContain('ORDER BY 1');
  expect(complaints).toEqual([]);
  await page.context().close();
});

test('a query under way can be cancelled, and a mistake is shown with its place', async () => {
  const { page } = await open(browser, url);
  const slow = 'SELECT count(*) FROM generate_series(1, 100000000) AS a(x), generate_series(1, 1000) AS b(y)';
  await page.goto(`/sql?sql=${encodeURIComponent(slow)}`);
  await shown(page);
  await page.getByRole('button', { name: 'Run' }).click();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByText('Cancelled').waitFor();
  await page.goto(`/sql?sql=${encodeURIComponent('SELECT nothing\nFROM logs')}`);
  await page.getByRole('button', { name: 'Run' }).click();
  expect(await page.getByRole('alert').textContent()).toContain('nothing');
  await page.context().close();
});
