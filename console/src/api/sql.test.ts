import { expect, test } from 'vitest';
import { identifier, literal, timestamp } from './sql';

test('quotes in a text cannot end the literal', () => {
  expect(literal("'; DROP TABLE logs; --")).toBe("'''; DROP TABLE logs; --'");
  expect(literal('back\\slash')).toBe("'back\\slash'");
});

test('quotes in a name cannot end the identifier', () => {
  expect(identifier('a"b')).toBe('"a""b"');
});

test('a time is written to the millisecond, in UTC', () => {
  expect(timestamp(0)).toBe("TIMESTAMP '1970-01-01T00:00:00.000Z'");
});
