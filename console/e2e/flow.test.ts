import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';

/** The incident begins in the second minute; its alert fires some seconds later. */
const ALERT_TIMEOUT_MS = 180_000;

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
  const deadline = Date.now() + ALERT_TIMEOUT_MS;
  for (;;) {
    const answer = await fetch(`${url}/api/v1/alerts`);
    const { alerts } = (await answer.json()) as { alerts: { state: string }[] };
    if (alerts.some(({ state }) => state !== 'pending')) return;
    if (Date.now() > deadline) throw new Error('expected an alert of the incident, found none');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}, ALERT_TIMEOUT_MS + 10_000);
afterAll(() => browser.close());

/** Opens the link in another window, and finds the same event in the same place. */
async function expectShared(page: Page, link: string): Promise<void> {
  expect(link).toContain('context=');
  const other = await open(browser, url);
  await other.page.goto(link);
  await other.page.locator('[data-anchor]').waitFor();
  const text = (page: Page) => page.locator('[data-anchor] .message').textContent();
  expect(await text(other.page)).toBe(await text(page));
  await other.page.context().close();
}

test('from an alert to what was logged around its cause, by mouse', async () => {
  const { page, complaints } = await open(browser, url);
  await page.goto('/alerts');
  await shown(page);
  await page.getByRole('link', { name: /ServiceFailing/ }).first().click();
  await page.getByRole('link', { name: 'Service payment' }).click();
  await page.getByRole('region', { name: 'Failing requests of payment' }).getByRole('link').first().click();
  await page.locator('button.line', { hasText: 'charge of order' }).first().click();
  await page.getByRole('button', { name: 'Surrounding context' }).click();
  await page.locator('[data-anchor]').waitFor();
  await page.getByRole('button', { name: 'Share and export' }).click();
  await page.getByRole('button', { name: 'Copy link' }).click();
  await page.getByText('Link copied').waitFor();
  await expectShared(page, await page.evaluate(() => navigator.clipboard.readText()));
  expect(complaints).toEqual([]);
  await page.context().close();
});

/** Presses Tab until what has the focus matches. */
async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((selector) => document.activeElement?.matches(selector) ?? false, selector)) return;
  }
  throw new Error(`expected Tab to lead to ${selector}`);
}

test('from an alert to what was logged around its cause, by keyboard alone', async () => {
  const { page, complaints } = await open(browser, url);
  await page.goto('/logs');
  await shown(page);
  await page.keyboard.press('g');
  await page.keyboard.press('a');
  await page.waitForURL('**/alerts');
  await page.getByRole('link', { name: 'Service payment' }).waitFor();
  await tabTo(page, 'main a[href^="/services?service=payment"]');
  await page.keyboard.press('Enter');
  await page.getByRole('region', { name: 'Failing requests of payment' }).getByRole('link').first().waitFor();
  await tabTo(page, '[aria-label="Failing requests of payment"] a');
  await page.keyboard.press('Enter');
  await page.locator('button.line').first().waitFor();
  await page.keyboard.press('j');
  for (let presses = 0; presses < 20; presses += 1) {
    if ((await page.evaluate(() => document.activeElement?.textContent))?.includes('charge of order')) break;
    await page.keyboard.press('j');
  }
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Surrounding context' }).waitFor();
  await tabTo(page, '.detail button');
  expect(await page.evaluate(() => document.activeElement?.textContent?.trim())).toBe('Surrounding context');
  await page.keyboard.press('Enter');
  await page.locator('[data-anchor]').waitFor();
  await page.keyboard.press('y');
  await page.getByText('Link copied').waitFor();
  await expectShared(page, await page.evaluate(() => navigator.clipboard.readText()));
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await page.keyboard.press('Escape');
  expect(await page.getByRole('dialog').count()).toBe(0);
  expect(complaints).toEqual([]);
  await page.context().close();
});
