import { expect, test } from 'vitest';
import { isNew, isRising, type Pattern } from './patterns';

const pattern = (recent: number, before: number) => ({ recent, before, first_seen: '2026-11-25T10:00:00Z' }) as Pattern;

test('a template rises when it comes more than twice as often, and often enough', () => {
  expect([pattern(21, 10), pattern(20, 10), pattern(9, 0), pattern(10, 0)].map(isRising)).toEqual([true, false, false, true]);
});

test('a template is new for an hour', () => {
  const first = Date.parse('2026-11-25T10:00:00Z');
  expect([isNew(pattern(1, 0), first + 3_599_999), isNew(pattern(1, 0), first + 3_600_000)]).toEqual([true, false]);
});
