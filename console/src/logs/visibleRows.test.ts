import { expect, test } from 'vitest';
import { ROW_PX, topOf, visibleRows } from './visibleRows';

test('of a hundred thousand rows only those in the window are drawn', () => {
  const { first, end } = visibleRows(100_000, new Map(), 50_000 * ROW_PX, 600);
  expect(first).toBeLessThanOrEqual(50_000);
  expect(end).toBeGreaterThanOrEqual(50_000 + Math.ceil(600 / ROW_PX));
  expect(end - first).toBeLessThan(60);
});

test('rows below an opened one stand lower by what it shows', () => {
  const opened = new Map([[10, 400]]);
  expect(topOf(10, opened)).toBe(10 * ROW_PX);
  expect(topOf(11, opened)).toBe(11 * ROW_PX + 400);
  const { first, end } = visibleRows(100, opened, 11 * ROW_PX + 400, 100);
  expect([first <= 11, end > 14]).toEqual([true, true]);
});

test('there is nothing to draw of no rows', () => {
  expect(visibleRows(0, new Map(), 0, 600)).toEqual({ first: 0, end: 0 });
});
