import { moment, span } from './format';

/**
 * The time that a page shows: relative to now (`-15m`, without an end), or from one moment to
 * another in milliseconds since 1970. Both are what the API understands.
 */
export interface Range {
  from: string;
  to?: string | undefined;
}

export const PRESETS: { from: string; label: string }[] = [
  { from: '-5m', label: 'Last 5 minutes' },
  { from: '-15m', label: 'Last 15 minutes' },
  { from: '-1h', label: 'Last hour' },
  { from: '-6h', label: 'Last 6 hours' },
  { from: '-24h', label: 'Last 24 hours' },
  { from: '-7d', label: 'Last 7 days' },
];

export const DEFAULT_RANGE: Range = { from: '-15m' };

const UNITS_MS: Record<string, number> = { s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };

/** A moment in milliseconds since 1970; `undefined` for what is no time. */
export function resolve(text: string, now: number): number | undefined {
  const relative = /^-(\d+)([smhdw])$/.exec(text);
  if (relative) return now - Number(relative[1]) * (UNITS_MS[relative[2] ?? ''] ?? 0);
  if (/^\d{10,}$/.test(text)) return Number(text);
  const parsed = Date.parse(text);
  return Number.isNaN(parsed) ? undefined : parsed;
}

/** Both ends in milliseconds since 1970. */
export function bounds(range: Range, now = Date.now()): { from: number; to: number } {
  const to = (range.to && resolve(range.to, now)) || now;
  return { from: resolve(range.from, now) ?? to - 900_000, to };
}

/** Whether the range ends now, and so goes on with the clock. */
export function isLive(range: Range): boolean {
  return !range.to;
}

export function describe(range: Range): string {
  if (isLive(range)) {
    const preset = PRESETS.find((preset) => preset.from === range.from);
    return preset?.label ?? `Since ${range.from.startsWith('-') ? range.from.slice(1) + ' ago' : moment(Number(range.from))}`;
  }
  const { from, to } = bounds(range);
  return `${moment(from)} – ${moment(to).slice(11)} (${span(to - from)})`;
}

/** A range of fixed moments. */
export function between(from: number, to: number): Range {
  return { from: String(Math.floor(from)), to: String(Math.ceil(to)) };
}
