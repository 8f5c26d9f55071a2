/**
 * Searches as text. The server alone parses them (docs/search.md); here is only what it takes to
 * add a term to one, and to find the term that is being written.
 */

/** Characters that a value may have without quotes. */
const PLAIN = /^[\p{L}\p{N}_.\/@+-]+$/u;

export function quote(value: string): string {
  return PLAIN.test(value) ? value : `"${value.replace(/[\\"]/g, '\\$&')}"`;
}

/** The term that finds events whose field is the value; `null` stands for none. */
export function term(field: string, value: string | null): string {
  return value === null ? `-${field}:*` : `${field}:${quote(value)}`;
}

/** The term that finds all others. */
export function opposite(term: string): string {
  return term.startsWith('-') ? term.slice(1) : `-${term}`;
}

/** The terms of a search, in order, as they were written. */
export function terms(search: string): string[] {
  return spans(search).map(({ start, end }) => search.slice(start, end));
}

export function has(search: string, wanted: string): boolean {
  return terms(search).includes(wanted);
}

/** Adds a term, in the place of its opposite. */
export function add(search: string, added: string): string {
  const kept = terms(search).filter((term) => term !== added && term !== opposite(added));
  return [...kept, added].join(' ');
}

export function remove(search: string, removed: string): string {
  return terms(search)
    .filter((term) => term !== removed)
    .join(' ');
}

/** Where terms begin and end: at spaces that no quotes enclose. */
function spans(search: string): { start: number; end: number }[] {
  const found: { start: number; end: number }[] = [];
  let start = -1;
  let isQuoted = false;
  for (let index = 0; index <= search.length; index += 1) {
    const char = search[index];
    if (isQuoted && char === '\\') {
      index += 1;
      continue;
    }
    if (char === '"') isQuoted = !isQuoted;
    const isBetween = index === search.length || (!isQuoted && /\s/.test(char ?? ''));
    if (isBetween && start >= 0) {
      found.push({ start, end: Math.min(index, search.length) });
      start = -1;
    } else if (!isBetween && start < 0) {
      start = index;
    }
  }
  return found;
}

/** What is being written at the cursor, and which part of the search it is. */
export type Writing =
  | { what: 'field'; text: string; start: number; end: number }
  | { what: 'value'; field: string; text: string; start: number; end: number };

/** What is being written at the cursor. */
export function writing(search: string, cursor: number): Writing {
  const span = spans(search).find(({ start, end }) => start <= cursor && cursor <= end) ?? { start: cursor, end: cursor };
  const written = search.slice(span.start, cursor);
  const comparison = /^-?([\w.]+?)(!=|<=|>=|[:=<>])((?:[^,"]*,)*)/.exec(written);
  if (comparison?.[1]) {
    const start = span.start + comparison[0].length - lastPart(comparison[0]).length;
    return { what: 'value', field: comparison[1], text: search.slice(start, cursor).replace(/^"/, ''), start, end: span.end };
  }
  const start = span.start + (written.startsWith('-') ? 1 : 0);
  return { what: 'field', text: search.slice(start, cursor), start, end: span.end };
}

/** What follows the operator and the commas. */
function lastPart(comparison: string): string {
  return comparison.slice(Math.max(...[',', ':', '=', '<', '>'].map((char) => comparison.lastIndexOf(char))) + 1);
}
