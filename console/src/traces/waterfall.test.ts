import { expect, test } from 'vitest';
import { waterfall, type Trace } from './waterfall';

const trace = {
  trace_id: 't',
  services: ['cart', 'web'],
  spans: 1,
  logs: 2,
  truncated: false,
  entries: [
    {
      depth: 0,
      span: { service: 'web', name: 'GET /', start_time_unix_nano: '1000000000000', duration_ms: 20, status_code: 'ERROR' },
    },
    { depth: 1, log: { service: 'web', message: 'm', time_unix_nano: '1000010000000', severity_number: 9 } },
    { depth: 0, log: { service: 'cart', message: 'n', time_unix_nano: '1000018000000', duration_ms: 8, severity_number: 17 } },
  ],
} as unknown as Trace;

test('a trace begins with its first entry and lasts until its last one ends', () => {
  const { lines, startedAt, durationMs } = waterfall(trace);
  expect(startedAt).toBe(1_000_000);
  expect(durationMs).toBe(20);
  expect(lines.map(({ startMs }) => startMs)).toEqual([0, 10, 10]);
});

test('an event that tells how long it took stands where that began', () => {
  const line = waterfall(trace).lines[2];
  expect([line?.startMs, line?.durationMs, line?.isError]).toEqual([10, 8, true]);
});
