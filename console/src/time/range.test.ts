import { expect, test } from 'vitest';
import { between, bounds, describe, isLive } from './range';

test('relative ranges end now and move with it', () => {
  expect(bounds({ from: '-15m' }, 1_000_000)).toEqual({ from: 100_000, to: 1_000_000 });
  expect(isLive({ from: '-15m' })).toBe(true);
  expect(describe({ from: '-15m' })).toBe('Last 15 minutes');
});

test('a range of moments survives its text', () => {
  const range = between(1_795_598_900_000.4, 1_795_598_960_000.2);
  expect(bounds(range)).toEqual({ from: 1_795_598_900_000, to: 1_795_598_960_001 });
  expect(isLive(range)).toBe(false);
});

test('a time that makes no sense is the last quarter of an hour', () => {
  expect(bounds({ from: 'soon' }, 1_000_000)).toEqual({ from: 100_000, to: 1_000_000 });
});
