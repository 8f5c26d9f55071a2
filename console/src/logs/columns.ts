import type { Histogram } from '../api/logs';
import { LEVELS } from '../parts/levels';

/** A histogram as a chart wants it: a column a bucket, empty ones among them. */
export interface Columns {
  /** When buckets begin, in milliseconds since 1970. */
  starts: number[];
  levels: readonly string[];
  /** Events of a level in each bucket. */
  counts: number[][];
  /** Events of a level and those less severe in each bucket. */
  stacked: number[][];
}

export function columns(histogram: Histogram): Columns {
  const interval = histogram.interval_ms;
  const first = Math.floor(Date.parse(histogram.from) / interval) * interval;
  const length = Math.max(1, Math.ceil((Date.parse(histogram.to) - first) / interval));
  const starts = Array.from({ length }, (_, index) => first + index * interval);
  const counts = LEVELS.map(() => new Array<number>(length).fill(0));
  for (const bucket of histogram.buckets) {
    const index = Math.round((Date.parse(bucket.start) - first) / interval);
    LEVELS.forEach((level, row) => {
      const events = counts[row];
      if (events && index in events) events[index] = bucket.levels[level] ?? 0;
    });
  }
  const below = new Array<number>(length).fill(0);
  const stacked = counts.map((events) => events.map((value, index) => (below[index] = (below[index] ?? 0) + value)));
  return { starts, levels: LEVELS, counts, stacked };
}
