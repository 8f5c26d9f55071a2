import { expect, test } from 'vitest';
import { ago, bytes, latency, percent, short, span } from './format';

test('amounts are short and keep their meaning', () => {
  expect([0.123, 12.34, 123.4, 999, 1234, 56_789, 2_500_000].map(short)).toEqual(['0.12', '12.3', '123', '999', '1.2k', '57k', '2.5M']);
  expect([0, 0.05, 0.123].map(percent)).toEqual(['0%', '5.0%', '12%']);
  expect([0.42, 13.44, 1280].map(latency)).toEqual(['0.42 ms', '13.4 ms', '1.28 s']);
  expect([1, 1536, 3 * 1024 ** 2].map(bytes)).toEqual(['1 B', '1.5 KiB', '3.0 MiB']);
});

test('spans of time are in a unit that fits', () => {
  expect([45_000, 180_000, 7_200_000, 4 * 86_400_000].map(span)).toEqual(['45 s', '3 min', '2 h', '4 d']);
  expect(ago(0, 180_000)).toBe('3 min ago');
  expect(ago(180_000, 0)).toBe('in 3 min');
});
