import { expect, test } from 'vitest';
import { columns } from './columns';

test('buckets without events are columns too, and levels stand on each other', () => {
  const { starts, levels, counts, stacked } = columns({
    from: '2026-11-25T10:00:10Z',
    to: '2026-11-25T10:03:00Z',
    interval_ms: 60_000,
    total: 6,
    buckets: [
      { start: '2026-11-25T10:00:00Z', levels: { INFO: 3, ERROR: 1 } },
      { start: '2026-11-25T10:02:00Z', levels: { INFO: 2 } },
    ],
  });
  expect(starts.map((start) => new Date(start).toISOString().slice(11, 16))).toEqual(['10:00', '10:01', '10:02']);
  expect(counts[levels.indexOf('INFO')]).toEqual([3, 0, 2]);
  expect(stacked[levels.indexOf('ERROR')]).toEqual([4, 0, 2]);
});
