import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { launch, open, shown } from './browser';
import { directory, run, Thalweg } from './thalweg';

let browser: Browser;
const url = inject('url');

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

async function send(message: string): Promise<string> {
  const id = randomUUID();
  const event = {
    timestamp: new Date().toISOString(),
    service: 'hostile',
    level: 'ERROR',
    message,
    eventId: id,
    metadata: { '<b>key</b>': '<img src=x onerror=window.owned=true>' },
  };
  const response = await fetch(`${url}/api/v1/logs?format=json`, { method: 'POST', body: JSON.stringify(event) });
  expect(response.status).toBe(200);
  return id;
}

test.each([
  ['markup', '<script>window.owned = true</script><img src=x onerror="window.owned = true">', '<script>window.owned = true</script>'],
  ['an escape of terminals', '\u001b[31mred\u001b]8;;http://evil.example\u0007link', '␛[31mred␛]8;;http://evil.example␇link'],
  ['text that turns around', 'report\u202efdp.exe', 'report\\u202efdp.exe'],
])('%s in a message is shown as text', async (_what, message, seen) => {
  const id = await send(message);
  const { page, complaints } = await open(browser, url);
  await page.goto(`/logs?q=event_id:${id}`);
  await page.getByRole('row').first().waitFor();
  expect(await page.locator('.line .message').textContent()).toContain(seen);
  await page.locator('.line').first().click();
  await page.getByText('attributes.<b>key</b>').waitFor();
  expect(await page.evaluate(() => 'owned' in window)).toBe(false);
  expect(await page.locator('main img').count()).toBe(0);
  expect(complaints).toEqual([]);
  await page.context().close();
});

test('the policy lets nothing inline run', async () => {
  const { page } = await open(browser, url);
  const response = await page.goto('/logs');
  const policy = response?.headers()['content-security-policy'] ?? '';
  expect(policy).toContain("default-src 'self'");
  expect(policy).not.toContain('unsafe');
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.owned = true';
    document.body.append(script);
  });
  expect(await page.evaluate(() => 'owned' in window)).toBe(false);
  await page.context().close();
});

test('a token is asked for where the server demands one, and kept nowhere', async () => {
  const data = directory();
  const token = /tw_\S+/.exec(run('token', 'create', 'me', '--scope', 'admin', '--data-dir', data))?.[0] ?? '';
  const server = await Thalweg.serve(data);
  try {
    const { page } = await open(browser, server.url);
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto('/logs');
    const field = page.getByLabel('Token');
    await field.fill('tw_wrong_token');
    await field.press('Enter');
    await page.getByRole('alert').waitFor();
    await field.fill(token);
    await field.press('Enter');
    await page.getByRole('treegrid').waitFor();
    await server.send([{ service: 'a', level: 'INFO', message: 'seen by those who may' }], token);
    await page.goto('/logs?live=1');
    await page.getByLabel('Token').fill(token);
    await page.getByLabel('Token').press('Enter');
    await page.getByRole('gridcell', { name: 'seen by those who may' }).waitFor();
    expect(asked.filter((url) => url.includes('tw_'))).toEqual([]);
    const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]) + document.cookie);
    expect(kept).not.toContain('tw_');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Token').waitFor();
    await page.context().close();
  } finally {
    await server.stop();
    rmSync(data, { recursive: true, force: true });
  }
});

test('what is sent from the form is told apart into accepted and rejected', async () => {
  const { page, complaints } = await open(browser, url);
  await page.goto('/send?kind=batch');
  await shown(page);
  await page.getByRole('button', { name: 'A batch' }).click();
  await page.getByRole('button', { name: 'Preview' }).click();
  await page.getByText('What would become of the records').waitFor();
  await page.getByText('2 accepted').waitFor();
  await page.getByText('1 rejected').waitFor();
  await page.getByRole('button', { name: 'A file' }).click();
  const lines = ['{"service":"up","level":"INFO","message":"from a file"}', '{"service":"up","level":'];
  await page.getByLabel('File').setInputFiles({ name: 'a.ndjson', mimeType: 'text/plain', buffer: Buffer.from(lines.join('\n')) });
  await page.getByText('1 accepted').waitFor();
  await page.getByText('1 rejected').waitFor();
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.getByText('What became of the records').waitFor();
  expect(complaints).toEqual([]);
  await page.context().close();
});
