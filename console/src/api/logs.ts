import { getJson, request, url } from './client';
import type { components } from './schema';
import { events } from './sse';

export type LogRow = components['schemas']['LogRow'];
export type LogPage = components['schemas']['LogPage'];
export type Histogram = components['schemas']['Histogram'];
export type Facet = components['schemas']['Facet'];

/** Which logs: the parameters that every endpoint of logs understands. */
export interface Selection {
  from?: string | undefined;
  to?: string | undefined;
  q?: string | undefined;
}

export function page(
  selection: Selection,
  place: { cursor?: string | undefined; limit?: number; order?: 'asc' | 'desc' },
  signal?: AbortSignal,
): Promise<LogPage> {
  return getJson('/api/v1/logs', { ...selection, ...place }, signal);
}

export function histogram(selection: Selection, buckets: number, signal?: AbortSignal): Promise<Histogram> {
  return getJson('/api/v1/logs/histogram', { ...selection, buckets }, signal);
}

export function facet(selection: Selection, field: string, limit: number, signal?: AbortSignal): Promise<Facet> {
  return getJson('/api/v1/logs/facet', { ...selection, field, limit }, signal);
}

/** The SQL that a search stands for. */
export async function searchSql(selection: Selection): Promise<string> {
  return (await getJson<components['schemas']['SearchSql']>('/api/v1/logs/sql', { ...selection })).sql;
}

/** What the live log says: a row, or how many were left out because we read too slowly. */
export type Tailed = { row: LogRow } | { dropped: number };

/** Follows the log until the signal aborts. */
export async function* tail(q: string, signal: AbortSignal): AsyncGenerator<Tailed> {
  const response = await request(url('/api/v1/logs/tail', { q }), { signal });
  if (!response.body) return;
  for await (const event of events(response.body)) {
    if (event.name === 'dropped') yield { dropped: (JSON.parse(event.data) as { rows: number }).rows };
    else yield { row: JSON.parse(event.data) as LogRow };
  }
}
