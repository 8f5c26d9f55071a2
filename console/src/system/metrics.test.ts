import { expect, test } from 'vitest';
import { Metrics, parse, rate } from './metrics';

const TEXT = `# HELP rows Rows
# TYPE rows counter
rows{topic="a \\"b\\"",partition="0"} 3
rows{topic="c"} 4

load 0.5
`;

test('names, labels and values are read, and comments are not', () => {
  expect(parse(TEXT)).toEqual([
    { name: 'rows', labels: { topic: 'a "b"', partition: '0' }, value: 3 },
    { name: 'rows', labels: { topic: 'c' }, value: 4 },
    { name: 'load', labels: {}, value: 0.5 },
  ]);
});

test('samples of a name are summed, all or some', () => {
  const metrics = new Metrics(parse(TEXT), 0);
  expect([metrics.sum('rows'), metrics.sum('rows', { topic: 'c' }), metrics.sum('none')]).toEqual([7, 4, undefined]);
});

test('a rate is the growth a second, and never negative', () => {
  const at = (ms: number, rows: number) => new Metrics(parse(`rows ${rows}\n`), ms);
  expect(rate(at(0, 10), at(2000, 30), 'rows')).toBe(10);
  expect(rate(at(0, 10), at(2000, 0), 'rows')).toBe(0);
  expect(rate(undefined, at(0, 10), 'rows')).toBeNull();
});
