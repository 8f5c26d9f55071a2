import { expect, test } from 'vitest';
import type { SqlAnswer } from '../api/sql';
import { chartable } from './chartable';

const answer = (columns: [string, string][], rows: unknown[][]) =>
  ({ columns: columns.map(([name, type]) => ({ name, type })), rows }) as SqlAnswer;

test('numbers over time are lines, told apart by a text', () => {
  const found = chartable(
    answer(
      [['t', 'timestamptz'], ['service', 'text'], ['n', 'int8']],
      [
        ['1970-01-01T00:00:02Z', 'web', 3],
        ['1970-01-01T00:00:01Z', 'web', 1],
        ['1970-01-01T00:00:01Z', 'cart', '2'],
      ],
    ),
  );
  expect(found).toEqual({
    times: [1000, 2000],
    series: [
      { label: 'web', values: [1, 3] },
      { label: 'cart', values: [2, null] },
    ],
  });
});

test('an answer without times or numbers is a table only', () => {
  expect(chartable(answer([['service', 'text'], ['n', 'int8']], []))).toBeUndefined();
  expect(chartable(answer([['t', 'timestamptz'], ['service', 'text']], []))).toBeUndefined();
});
