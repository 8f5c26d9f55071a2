import { expect, test } from 'vitest';
import { add, has, opposite, quote, remove, term, terms, writing } from './terms';

test('values that would read as something else are quoted', () => {
  expect(quote('checkout')).toBe('checkout');
  expect(quote('POST /cart')).toBe('"POST /cart"');
  expect(quote('a"b\\c')).toBe('"a\\"b\\\\c"');
  expect(quote('')).toBe('""');
  expect(quote('a*')).toBe('"a*"');
  expect(quote('a,b')).toBe('"a,b"');
});

test('terms end at spaces outside of quotes', () => {
  expect(terms(' service:a  "two words" x:"a \\" b" ')).toEqual(['service:a', '"two words"', 'x:"a \\" b"']);
  expect(terms('"never closed')).toEqual(['"never closed']);
  expect(terms('')).toEqual([]);
});

test('a term takes the place of its opposite', () => {
  expect(add('refused service:a', '-service:a')).toBe('refused -service:a');
  expect(add('service:a', 'service:a')).toBe('service:a');
  expect(opposite(opposite('service:a'))).toBe('service:a');
  expect(term('host', null)).toBe('-host:*');
  expect(has(add('', term('message', 'a b')), 'message:"a b"')).toBe(true);
  expect(remove('x service:a y', 'service:a')).toBe('x y');
});

test('what is written at the cursor is a field or a value', () => {
  expect(writing('card ser', 8)).toEqual({ what: 'field', text: 'ser', start: 5, end: 8 });
  expect(writing('-ser', 4)).toEqual({ what: 'field', text: 'ser', start: 1, end: 4 });
  expect(writing('service:che', 11)).toEqual({ what: 'value', field: 'service', text: 'che', start: 8, end: 11 });
  expect(writing('service:a,b', 11)).toEqual({ what: 'value', field: 'service', text: 'b', start: 10, end: 11 });
  expect(writing('level>=wa rest', 9)).toEqual({ what: 'value', field: 'level', text: 'wa', start: 7, end: 9 });
  expect(writing('', 0)).toEqual({ what: 'field', text: '', start: 0, end: 0 });
  expect(writing('a ', 2)).toEqual({ what: 'field', text: '', start: 2, end: 2 });
});
