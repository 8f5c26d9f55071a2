import { expect, test } from 'vitest';
import type { LogRow } from '../api/logs';
import { fields } from './fields';

test('attributes keep their types and are named as they are searched for', () => {
  const row = {
    timestamp: '2026-11-25T10:00:00Z',
    event_id: 'e1',
    message: 'm',
    http_status: 503,
    attributes: { 'user.id': 7, ok: false, cart: { items: [1] }, gone: null },
    resource: { pod: 'a' },
  } as unknown as LogRow;
  const found = Object.fromEntries(fields(row).map(({ name, type, text, value }) => [name, [type, text, value]]));
  expect(found).toEqual({
    timestamp: ['text', '2026-11-25T10:00:00Z', '2026-11-25T10:00:00Z'],
    event_id: ['text', 'e1', 'e1'],
    http_status: ['number', '503', '503'],
    'attributes.user.id': ['number', '7', '7'],
    'attributes.ok': ['boolean', 'false', 'false'],
    'attributes.cart': ['object', '{"items":[1]}', undefined],
    'attributes.gone': ['null', 'null', undefined],
    'resource.pod': ['text', 'a', 'a'],
  });
});
