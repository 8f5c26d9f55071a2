import { expect, test } from 'vitest';
import { visible } from './visible';

test('terminal escapes are seen, not obeyed', () => {
  expect(visible('\u001b[31mred\u001b[0m\u0007')).toBe('␛[31mred␛[0m␇');
});

test('text that turns around is seen', () => {
  expect(visible('user\u202egnp.exe')).toBe('user\\u202egnp.exe');
});

test('line ends and tabs stay what they are', () => {
  expect(visible('a\n\tb')).toBe('a\n\tb');
});
