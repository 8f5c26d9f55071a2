import { literal, rows, type Row } from '../api/sql';

/** A trace among others. */
export interface TraceSummary extends Row {
  trace_id: string;
  started: string;
  service: string;
  what: string;
  services: number;
  events: number;
  errors: number;
  duration_ms: number | null;
}

export type Order = 'latest' | 'slowest' | 'errors';

/** Which rows lead to the traces wanted, the best first. */
const CANDIDATES: Record<Order, { where: string; by: string }> = {
  latest: { where: 'true', by: 'timestamp' },
  slowest: { where: 'duration_ms IS NOT NULL', by: 'duration_ms' },
  errors: { where: 'is_error', by: 'timestamp' },
};

/** Rows looked at to find the traces. */
const MOST_ROWS = 1_000;
const MOST = 100;

/** Traces of the last `minutes`, from spans and logs alike; of a service, those that it took part in. */
export function traces(
  minutes: number,
  order: Order,
  service: string | undefined,
  signal: AbortSignal,
  most = MOST,
): Promise<TraceSummary[]> {
  const since = `trace_id IS NOT NULL AND timestamp > now() - INTERVAL '${Math.floor(minutes)} minutes'`;
  const { where, by } = CANDIDATES[order];
  const only = service === undefined ? '' : ` AND service = ${literal(service)}`;
  // Few rows lead to the traces; only those of these traces are summed up.
  return rows<TraceSummary>(
    `WITH seen AS (
       SELECT trace_id, timestamp, service, message AS what, duration_ms, severity_number >= 17 AS is_error
       FROM logs WHERE ${since}
       UNION ALL
       SELECT trace_id, timestamp, service, name, duration_ms, status_code = 'ERROR' FROM spans WHERE ${since}),
     best AS (SELECT trace_id, ${by} AS rank FROM seen WHERE ${where}${only} ORDER BY rank DESC LIMIT ${MOST_ROWS}),
     wanted AS (SELECT trace_id, max(rank) AS rank FROM best GROUP BY trace_id ORDER BY rank DESC LIMIT ${most})
     SELECT seen.trace_id, min(timestamp) AS started,
       first_value(service ORDER BY duration_ms DESC NULLS LAST) AS service,
       first_value(what ORDER BY duration_ms DESC NULLS LAST) AS what,
       count(DISTINCT service) AS services, count(*) AS events,
       count(*) FILTER (WHERE is_error) AS errors, max(duration_ms) AS duration_ms
     FROM seen JOIN wanted ON seen.trace_id = wanted.trace_id
     GROUP BY seen.trace_id, wanted.rank ORDER BY wanted.rank DESC`,
    signal,
  );
}
