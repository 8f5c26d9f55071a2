import { facet, type Selection } from '../api/logs';
import { rows } from '../api/sql';
import { quote, writing } from './terms';

/** Something that the user may mean. */
export interface Suggestion {
  /** What is shown. */
  label: string;
  /** What is known of it: a type, a count. */
  detail: string;
  /** The search with it, and where the cursor then stands. */
  search: string;
  cursor: number;
}

const MOST = 12;
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];

let known: Promise<{ name: string; type: string }[]> | undefined;

/** Fields that can be searched: the columns of table logs. */
function fields(): Promise<{ name: string; type: string }[]> {
  known ??= rows<{ name: string; type: string }>(
    "SELECT column_name AS name, data_type AS type FROM information_schema.columns WHERE table_name = 'logs'",
  ).catch(() => {
    known = undefined;
    return [];
  });
  return known;
}

/** What may be meant at the cursor: fields, and values that there are in the time shown. */
export async function suggest(
  search: string,
  cursor: number,
  times: Selection,
  signal: AbortSignal,
): Promise<Suggestion[]> {
  const at = writing(search, cursor);
  const replaced = (text: string) => ({
    search: search.slice(0, at.start) + text + search.slice(at.end),
    cursor: at.start + text.length,
  });
  if (at.what === 'field') {
    if (at.text === '' && search !== '') return [];
    const names = [...(await fields()), { name: 'template', type: 'id' }, { name: 'attributes.', type: 'key' }];
    return names
      .filter(({ name }) => name.startsWith(at.text.toLowerCase()) && name !== at.text)
      .slice(0, MOST)
      .map(({ name, type }) => {
        const operator = name.endsWith('.') ? '' : /Int|Float/.test(type) ? '>' : ':';
        return { label: name, detail: kind(type), ...replaced(name + operator) };
      });
  }
  if (at.field === 'level') {
    const levels = LEVELS.filter((level) => level.startsWith(at.text.toLowerCase()) && level !== at.text);
    return levels.map((level) => ({ label: level, detail: 'level', ...replaced(level) }));
  }
  if (!(await fields()).some(({ name }) => name === at.field) && at.field !== 'template') return [];
  const found = await facet({ from: times.from, to: times.to }, at.field, 50, signal);
  return found.values
    .filter(({ value, label }) => value?.toLowerCase().startsWith(at.text.toLowerCase()) || label?.includes(at.text))
    .filter(({ value }) => value !== null && value !== at.text)
    .slice(0, MOST)
    .map(({ value, label, events }) => ({
      label: label ?? '',
      detail: `${events} events`,
      ...replaced(quote(value ?? '')),
    }));
}

function kind(type: string): string {
  if (/Int|Float/.test(type)) return 'number';
  if (type.startsWith('Timestamp')) return 'time';
  return ['id', 'key'].includes(type) ? type : 'text';
}
