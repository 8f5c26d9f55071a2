import { postJson } from './client';
import type { components } from './schema';

export type SqlAnswer = components['schemas']['SqlAnswer'];
export type Row = Record<string, unknown>;

/** Asks a SQL question. Throws also when the query fails after its first rows. */
export async function sql(query: string, options: { limit?: number; signal?: AbortSignal } = {}): Promise<SqlAnswer> {
  const body = { query, ...(options.limit === undefined ? {} : { limit: options.limit }) };
  const answer = await postJson<SqlAnswer>('/api/v1/sql', body, options.signal);
  const error = answer.error as { message?: string } | null | undefined;
  if (error) throw new Error(error.message ?? 'the query failed midway');
  return answer;
}

/** The rows of an answer as objects. */
export async function rows<T extends Row>(query: string, signal?: AbortSignal): Promise<T[]> {
  const answer = await sql(query, signal ? { signal } : {});
  const names = answer.columns.map((column) => column.name);
  return answer.rows.map((row) => Object.fromEntries(names.map((name, index) => [name, row[index]])) as T);
}

/** A text as a literal of SQL. The only way in which anything a user wrote gets into SQL. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A time as a literal of SQL. */
export function timestamp(ms: number): string {
  return `TIMESTAMP ${literal(new Date(ms).toISOString())}`;
}

/** A name as an identifier of SQL. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
