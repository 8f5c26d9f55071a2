import type { LogRow } from '../api/logs';

/** A field of an event, as it is shown and searched for. */
export interface Field {
  /** Name in searches: a column, or `attributes.key`. */
  name: string;
  type: 'text' | 'number' | 'boolean' | 'object' | 'null';
  /** As it is shown. */
  text: string;
  /** As it is searched for; `undefined` for what cannot be. */
  value: string | undefined;
}

/** Columns of their own place, or of interest to nobody who reads logs. */
const LEFT_OUT = ['message', 'attributes', 'resource', 'date', 'time_unix_nano'];

/** The fields of an event: columns first, then attributes, then what is known of the sender. */
export function fields(row: LogRow): Field[] {
  const columns = Object.entries(row).filter(([name]) => !LEFT_OUT.includes(name));
  const below = (prefix: 'attributes' | 'resource') =>
    Object.entries(row[prefix] ?? {}).map(([key, value]) => field(`${prefix}.${key}`, value));
  return [...columns.map(([name, value]) => field(name, value)), ...below('attributes'), ...below('resource')];
}

function field(name: string, value: unknown): Field {
  switch (typeof value) {
    case 'string':
      return { name, type: 'text', text: value, value };
    case 'number':
      return { name, type: 'number', text: String(value), value: String(value) };
    case 'boolean':
      return { name, type: 'boolean', text: String(value), value: String(value) };
    default: {
      const text = JSON.stringify(value ?? null);
      return { name, type: value == null ? 'null' : 'object', text, value: undefined };
    }
  }
}
