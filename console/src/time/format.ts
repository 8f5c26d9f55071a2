/** How times, amounts and durations are written for people. Times are in the browser's zone. */

const pad = (value: number, digits = 2): string => String(value).padStart(digits, '0');

/** `14:03:07.123`. */
export function clock(time: number | string): string {
  const at = new Date(time);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}

/** `2026-11-25`. */
export function day(time: number | string): string {
  const at = new Date(time);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

/** `2026-11-25 14:03:07`. */
export function moment(time: number | string): string {
  return `${day(time)} ${clock(time).slice(0, 8)}`;
}

/** `3 min ago`, `in 2 h`. */
export function ago(time: number | string, now = Date.now()): string {
  const seconds = Math.round((now - new Date(time).getTime()) / 1000);
  if (Math.abs(seconds) < 2) return 'just now';
  const text = span(Math.abs(seconds) * 1000);
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

/** A span of time in its largest fitting unit: `45 s`, `3 min`, `2 h`, `5 d`. */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** A latency: `0.42 ms`, `13.4 ms`, `1.28 s`. */
export function latency(ms: number | null | undefined): string {
  if (ms == null) return '–';
  if (ms === 0) return '0 ms';
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms < 1 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
}

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** `1,234,567`. */
export function count(value: number): string {
  return WHOLE.format(value);
}

/** `1.2k`, `3.4M`. */
export function short(value: number): string {
  for (const [limit, unit] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (Math.abs(value) >= limit) return `${(value / limit).toFixed(value >= 10 * limit ? 0 : 1)}${unit}`;
  }
  return Number.isInteger(value) ? String(value) : value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** `0.05` as `5%`. */
export function percent(share: number | null | undefined): string {
  if (share == null) return '–';
  const value = share * 100;
  return `${value === 0 || value >= 10 ? value.toFixed(0) : value.toFixed(1)}%`;
}

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.5 MiB`. */
export function bytes(value: number): string {
  const power = Math.min(BYTES.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, value)) / 10)));
  return `${(value / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${BYTES[power]}`;
}
