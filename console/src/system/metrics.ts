/** A number that the server measures, and what it is of. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Reads Prometheus' text format, as far as the server writes it. */
export function parse(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const [, name, written, value] = LINE.exec(line) ?? [];
    if (name === undefined || line.startsWith('#')) continue;
    const labels: Record<string, string> = {};
    for (const [, key, text] of (written ?? '').matchAll(LABEL)) labels[key ?? ''] = (text ?? '').replace(/\\(.)/g, '$1');
    samples.push({ name, labels, value: Number(value) });
  }
  return samples;
}

/** The metrics of a moment. */
export class Metrics {
  constructor(
    readonly samples: Sample[],
    /** Milliseconds since 1970. */
    readonly at: number,
  ) {}

  of(name: string, labels: Record<string, string> = {}): Sample[] {
    const wanted = Object.entries(labels);
    return this.samples.filter((one) => one.name === name && wanted.every(([key, value]) => one.labels[key] === value));
  }

  /** What a label says of those that are called so, each once. */
  values(name: string, label: string): string[] {
    return [...new Set(this.of(name).map(({ labels }) => labels[label] ?? ''))].sort();
  }

  /** The sum of all that are called so; `undefined` when none is. */
  sum(name: string, labels: Record<string, string> = {}): number | undefined {
    const found = this.of(name, labels);
    return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + value, 0);
  }

  max(name: string, labels: Record<string, string> = {}): number | undefined {
    const found = this.of(name, labels);
    return found.length === 0 ? undefined : Math.max(...found.map(({ value }) => value));
  }
}

/** How fast a counter grew between two moments, a second. */
export function rate(before: Metrics | undefined, now: Metrics, name: string, labels: Record<string, string> = {}): number | null {
  const [was, is] = [before?.sum(name, labels), now.sum(name, labels)];
  if (before === undefined || was === undefined || is === undefined || now.at <= before.at) return null;
  // A counter that is smaller began anew.
  return Math.max(0, is - was) / ((now.at - before.at) / 1000);
}
