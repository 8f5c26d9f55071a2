import type { components } from '../api/schema';

export type Trace = components['schemas']['TraceAnswer'];
export type TraceEntry = components['schemas']['TraceEntry'];

/** A span or a log, as a line of the waterfall. */
export interface Line {
  id: string;
  kind: 'span' | 'log';
  depth: number;
  service: string;
  label: string;
  /** Milliseconds from the start of the trace. */
  startMs: number;
  durationMs: number | undefined;
  isError: boolean;
  level: string | undefined;
  entry: TraceEntry;
}

export interface Waterfall {
  lines: Line[];
  /** Milliseconds since 1970. */
  startedAt: number;
  durationMs: number;
}

/** Lays a trace out over its time. The order and the depths are the server's. */
export function waterfall(trace: Trace): Waterfall {
  const placed = trace.entries.map((entry, index) => place(entry, index));
  const startedAt = Math.min(...placed.map(({ startMs }) => startMs));
  const end = Math.max(...placed.map(({ startMs, durationMs }) => startMs + (durationMs ?? 0)));
  const lines = placed.map((line) => ({ ...line, startMs: line.startMs - startedAt }));
  return { lines, startedAt, durationMs: Math.max(end - startedAt, 0.001) };
}

function place(entry: TraceEntry, index: number): Line {
  const shared = { depth: entry.depth, entry, id: String(index) };
  if (entry.span) {
    const { span } = entry;
    return {
      ...shared,
      kind: 'span',
      service: span.service ?? '',
      label: span.name ?? '',
      startMs: exact(span.start_time_unix_nano, span.timestamp),
      durationMs: span.duration_ms ?? 0,
      isError: span.status_code === 'ERROR',
      level: undefined,
    };
  }
  const log = entry.log;
  // An event is logged when what it tells of is over.
  const end = exact(log?.time_unix_nano, log?.timestamp ?? '');
  return {
    ...shared,
    kind: 'log',
    service: log?.service ?? '',
    label: log?.message ?? '',
    startMs: end - (log?.duration_ms ?? 0),
    durationMs: log?.duration_ms,
    isError: (log?.severity_number ?? 0) >= 17,
    level: log?.level,
  };
}

/** Milliseconds since 1970, as exact as a double is. */
function exact(nanos: number | string | undefined, timestamp: string): number {
  return nanos === undefined ? Date.parse(timestamp) : Number(nanos) / 1e6;
}
