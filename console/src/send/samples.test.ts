import { expect, test } from 'vitest';
import { batch, records, single } from './samples';

test('records are lines that are not empty, but for a JSON document', () => {
  expect(records('a\n\r\n b\r\n\n', 'text')).toEqual(['a', ' b']);
  expect(records('{\n}', 'json')).toEqual(['{\n}']);
});

test('samples are what the formats ask for', () => {
  const now = new Date(0);
  expect(JSON.parse(single(now))).toMatchObject({ timestamp: '1970-01-01T00:00:00.000Z', service: 'test' });
  expect(records(batch(now), 'ndjson').map((line) => JSON.parse(line).service)).toEqual(['test', 'test', 'test']);
});
