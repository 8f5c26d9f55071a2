/** Records to begin with. */
export function single(now: Date): string {
  return JSON.stringify(
    {
      timestamp: now.toISOString(),
      service: 'test',
      level: 'WARN',
      message: 'sent from the console',
      metadata: { 'user.id': 42 },
    },
    null,
    2,
  );
}

/** A batch, one record of which is bad, to show what becomes of those. */
export function batch(now: Date): string {
  const line = (level: string, message: string) =>
    JSON.stringify({ timestamp: now.toISOString(), service: 'test', level, message });
  return [
    line('INFO', 'first of a batch'),
    line('ERROR', 'second of a batch'),
    '{"service":"test","level":"INFO","timestamp":"not a time","message":"rejected, with the reason"}',
  ].join('\n');
}

/** The records of a body of lines, as the server counts them: empty lines are none. */
export function records(body: string, format: string): string[] {
  if (format === 'json') return [body];
  return body.split(/\r?\n/).filter((line) => line.trim() !== '');
}
