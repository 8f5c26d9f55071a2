import { expect, test } from 'vitest';
import { firings, matcher, type Change } from './alerts';

const change = (state: string, starts: number, ends: number | null, fingerprint = 'f') =>
  ({
    state,
    fingerprint,
    starts_at: new Date(starts).toISOString(),
    ends_at: ends === null ? null : new Date(ends).toISOString(),
  }) as Change;

test('an alert fired from its start until it was resolved, or still does', () => {
  const changes = [
    change('firing', 9_000, null),
    change('resolved', 1_000, 4_000),
    change('firing', 1_000, null),
    change('firing', 2_000, null, 'another'),
    change('pending', 8_000, null),
  ];
  expect(firings(changes, 'f', 10_000)).toEqual([
    { from: 9_000, to: 10_000 },
    { from: 1_000, to: 4_000 },
  ]);
});

test('values of labels cannot end the condition', () => {
  expect(matcher('service', 'a"b\\c')).toBe('service="a\\"b\\\\c"');
});
