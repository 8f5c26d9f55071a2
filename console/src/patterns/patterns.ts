import { rows, type Row } from '../api/sql';

/** A template of messages, and how often it came. */
export interface Pattern extends Row {
  template_id: string;
  template: string;
  /** Since the server first saw it. */
  events: number;
  first_seen: string;
  last_seen: string;
  /** In the last minutes, and as many before them. */
  recent: number;
  before: number;
  /** Of the recent ones, those that are errors. */
  errors: number;
  service: string | null;
}

/** Minutes that count as recent. */
export const RECENT_MINUTES = 5;
const MOST = 500;

/** All templates, the most frequent of the last minutes first. */
export function patterns(signal: AbortSignal): Promise<Pattern[]> {
  const recent = `window_start >= now() - INTERVAL '${RECENT_MINUTES} minutes'`;
  return rows(
    `SELECT t.template_id, t.template, t.events, t.first_seen, t.last_seen,
       coalesce(c.recent, 0) AS recent, coalesce(c.before, 0) AS before, coalesce(c.errors, 0) AS errors, c.service
     FROM templates AS t LEFT JOIN (
       SELECT template_id, max(service) AS service,
         sum(CASE WHEN ${recent} THEN events ELSE 0 END) AS recent,
         sum(CASE WHEN ${recent} THEN 0 ELSE events END) AS before,
         sum(CASE WHEN ${recent} AND level IN ('ERROR', 'FATAL') THEN events ELSE 0 END) AS errors
       FROM top_templates WHERE window_start >= now() - INTERVAL '${2 * RECENT_MINUTES} minutes'
       GROUP BY template_id) AS c ON c.template_id = t.template_id
     ORDER BY recent DESC, t.events DESC LIMIT ${MOST}`,
    signal,
  );
}

/** A template that the server found remarkable. */
export interface SignalRow extends Row {
  timestamp: string;
  signal: string;
  template_id: string;
  template: string;
  before: number | null;
  now: number | null;
}

export function signals(signal: AbortSignal): Promise<SignalRow[]> {
  return rows(
    `SELECT timestamp, signal, template_id, template, before, now FROM template_signals
     WHERE timestamp > now() - INTERVAL '24 hours' ORDER BY timestamp DESC LIMIT 50`,
    signal,
  );
}

export type Kind = 'all' | 'new' | 'rising';

/** How long a template counts as new. */
export const NEW_MS = 3_600_000;
/** Growth, and events, from which a template counts as rising. */
const RISES_BY = 2;
const LEAST_EVENTS = 10;

export function isNew(pattern: Pattern, now: number): boolean {
  return now - Date.parse(pattern.first_seen) < NEW_MS;
}

export function isRising(pattern: Pattern): boolean {
  return pattern.recent >= LEAST_EVENTS && pattern.recent > RISES_BY * pattern.before;
}
