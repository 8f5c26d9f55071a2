import { literal, rows, type Row } from '../api/sql';

/** How a service did in the time shown. */
export interface ServiceHealth extends Row {
  service: string;
  events: number;
  requests: number;
  errors: number;
  error_rate: number | null;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
}

/** How a service did in one minute. */
export interface Minute extends Row {
  service: string;
  window_start: string;
  requests: number;
  error_rate: number | null;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
}

const since = (minutes: number) => `window_start > now() - INTERVAL '${Math.floor(minutes)} minutes'`;

/** Every service over the last `minutes`: rates of all of it, and the worst minute's percentiles. */
export function services(minutes: number, signal: AbortSignal): Promise<ServiceHealth[]> {
  return rows(
    `SELECT service, sum(events) AS events, sum(requests) AS requests, sum(errors) AS errors,
       sum(errors) / CAST(nullif(sum(events), 0) AS DOUBLE) AS error_rate,
       max(p50_ms) AS p50_ms, max(p95_ms) AS p95_ms, max(p99_ms) AS p99_ms
     FROM service_health WHERE ${since(minutes)} GROUP BY service ORDER BY service`,
    signal,
  );
}

/** Minute by minute, all services or one. */
export function history(minutes: number, service: string | undefined, signal: AbortSignal): Promise<Minute[]> {
  const only = service === undefined ? '' : ` AND service = ${literal(service)}`;
  return rows(
    `SELECT service, window_start, requests, error_rate, p50_ms, p95_ms, p99_ms
     FROM service_health WHERE ${since(minutes)}${only} ORDER BY window_start`,
    signal,
  );
}

/** Calls of one service to another. */
export interface Call extends Row {
  caller: string;
  callee: string;
  calls: number;
  errors: number;
  error_rate: number | null;
  p95_ms: number | null;
}

/** Who called whom in the last `minutes`; `undefined` where no view tells. */
export async function calls(minutes: number, signal: AbortSignal): Promise<Call[] | undefined> {
  // Asked for first: a query of a table that is not there would be an error.
  const views = await rows("SELECT 1 FROM information_schema.tables WHERE table_name = 'service_map'", signal);
  if (views.length === 0) return undefined;
  return rows<Call>(
    `SELECT caller, callee, sum(calls) AS calls, sum(errors) AS errors,
       sum(errors) / CAST(nullif(sum(calls), 0) AS DOUBLE) AS error_rate, max(p95_ms) AS p95_ms
     FROM service_map WHERE ${since(minutes)} GROUP BY caller, callee ORDER BY caller, callee`,
    signal,
  );
}
