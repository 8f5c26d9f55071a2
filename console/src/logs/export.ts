import { request, url } from '../api/client';
import { searchSql, type Selection } from '../api/logs';
import { session } from '../api/session.svelte';

/** Most rows of a file. */
export const MAX_EXPORTED_ROWS = 10_000;

const TYPES = { csv: 'text/csv', json: 'application/x-ndjson' } as const;

/** All rows of a search as a file, newest first: CSV, or a JSON object a line. */
export async function download(selection: Selection, kind: keyof typeof TYPES): Promise<void> {
  const response = await request('/api/v1/sql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: TYPES[kind] },
    body: JSON.stringify({ query: await searchSql(selection), limit: MAX_EXPORTED_ROWS }),
  });
  save(await response.blob(), `logs.${kind === 'csv' ? 'csv' : 'ndjson'}`);
}

/** Hands a file to the user. */
export function save(content: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The request for a search, for a shell. The token is not in it, but where it may be kept. */
export function curl(selection: Selection, origin: string): string {
  const token = session.hasToken ? ' -H "Authorization: Bearer $THALWEG_TOKEN"' : '';
  return `curl${token} ${shellWord(origin + url('/api/v1/logs', { ...selection }))}`;
}

function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
