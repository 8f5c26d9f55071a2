import { getJson, postJson, request } from '../api/client';
import type { components } from '../api/schema';
import { rows, timestamp, type Row } from '../api/sql';

export type Alerts = components['schemas']['AlertsAnswer'];
export type Alert = components['schemas']['AlertRow'];
export type Rule = components['schemas']['RuleStatus'];
export type Silence = components['schemas']['Silence'];

export function alerts(signal: AbortSignal): Promise<Alerts> {
  return getJson('/api/v1/alerts', {}, signal);
}

export function silences(signal: AbortSignal): Promise<Silence[]> {
  return getJson('/api/v1/silences', {}, signal);
}

/** Silences alerts that meet all conditions. */
export function silence(matchers: string[], hours: number, comment: string): Promise<Silence> {
  const ends = new Date(Date.now() + hours * 3_600_000).toISOString();
  return postJson('/api/v1/silences', { matchers, ends_at: ends, comment });
}

export async function endSilence(id: string): Promise<void> {
  await request(`/api/v1/silences/${encodeURIComponent(id)}`, { method: 'DELETE' });
}

/** The condition that a label has a value, as the API reads it. */
export function matcher(label: string, value: string): string {
  return `${label}="${value.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')}"`;
}

/** A change of an alert's state. */
export interface Change extends Row {
  timestamp: string;
  alert: string;
  state: string;
  severity: string;
  service: string | null;
  value: number | null;
  summary: string;
  starts_at: string;
  ends_at: string | null;
  fingerprint: string;
}

const MOST_CHANGES = 200;

/** What changed since a time, newest first. */
export function changes(sinceMs: number, signal: AbortSignal): Promise<Change[]> {
  return rows(
    `SELECT timestamp, alert, state, severity, service, value, summary, starts_at, ends_at, fingerprint
     FROM alerts WHERE timestamp > ${timestamp(sinceMs)} ORDER BY timestamp DESC LIMIT ${MOST_CHANGES}`,
    signal,
  );
}

/** Stretches of time in which an alert fired, from its changes. */
export function firings(changes: Change[], fingerprint: string, now: number): { from: number; to: number }[] {
  const ends = new Map<number, number>();
  for (const change of changes) {
    if (change.fingerprint !== fingerprint || change.state === 'pending') continue;
    const from = Date.parse(change.starts_at);
    const to = change.ends_at === null ? now : Date.parse(change.ends_at);
    ends.set(from, Math.min(ends.get(from) ?? Number.POSITIVE_INFINITY, to));
  }
  return [...ends].map(([from, to]) => ({ from, to }));
}
