import type { SqlAnswer } from '../api/sql';

/** An answer as lines over time. */
export interface Chartable {
  times: number[];
  series: { label: string; values: (number | null)[] }[];
}

const NUMBERS = /^(int|float|numeric)/;
const TIMES = /^timestamp/;
/** Lines that can still be told apart. */
const MOST_LINES = 8;

/**
 * What can be drawn of an answer: its first column of times across; each column of numbers, told
 * apart by the first column of text if there is one. `undefined` when it has neither.
 */
export function chartable(answer: SqlAnswer): Chartable | undefined {
  const index = (wanted: (type: string) => boolean) => answer.columns.findIndex(({ type }) => wanted(type));
  const time = index((type) => TIMES.test(type));
  const text = index((type) => type === 'text');
  const numbers = answer.columns.map(({ type }, at) => (NUMBERS.test(type) ? at : -1)).filter((at) => at >= 0);
  if (time < 0 || numbers.length === 0) return undefined;

  const times = [...new Set(answer.rows.map((row) => Date.parse(String(row[time]))))].sort((a, b) => a - b);
  const places = new Map(times.map((time, place) => [time, place]));
  const lines = new Map<string, (number | null)[]>();
  for (const row of answer.rows) {
    for (const number of numbers) {
      const label = [text < 0 ? [] : [String(row[text])], numbers.length > 1 || text < 0 ? [answer.columns[number]?.name] : []]
        .flat()
        .join(' ');
      if (!lines.has(label)) lines.set(label, new Array<number | null>(times.length).fill(null));
      const place = places.get(Date.parse(String(row[time])));
      const values = lines.get(label);
      if (values && place !== undefined && row[number] != null) values[place] = Number(row[number]);
    }
  }
  return { times, series: [...lines].slice(0, MOST_LINES).map(([label, values]) => ({ label, values })) };
}
