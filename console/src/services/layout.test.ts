import { expect, test } from 'vitest';
import { layout, NODE_HEIGHT } from './layout';

const call = (caller: string, callee: string) => ({ caller, callee });

test('whoever calls stands left of whom it calls', () => {
  const { places } = layout([call('web', 'cart'), call('web', 'checkout'), call('checkout', 'payment'), call('web', 'payment')]);
  const x = (name: string) => places.get(name)?.x ?? Number.NaN;
  expect(x('web')).toBeLessThan(x('checkout'));
  expect(x('checkout')).toBeLessThan(x('payment'));
  expect(x('cart')).toBe(x('checkout'));
});

test('no two services stand on each other', () => {
  const { places } = layout(['a', 'b', 'c', 'd'].map((name) => call('web', name)));
  const ys = ['a', 'b', 'c', 'd'].map((name) => places.get(name)?.y ?? 0).sort((a, b) => a - b);
  for (let index = 1; index < ys.length; index += 1) {
    expect((ys[index] ?? 0) - (ys[index - 1] ?? 0)).toBeGreaterThanOrEqual(NODE_HEIGHT);
  }
});

test('services that call each other in circles have a place too', () => {
  const { places } = layout([call('a', 'b'), call('b', 'a'), call('b', 'b')]);
  expect([...places.keys()]).toEqual(['a', 'b']);
});
