import { getJson, request, url, ApiError } from '../api/client';
import type { components } from '../api/schema';

export type Outcome = components['schemas']['Answer'];
export type FormatInfo = components['schemas']['FormatInfo'];

export function formats(signal: AbortSignal): Promise<FormatInfo[]> {
  return getJson('/api/v1/formats', {}, signal);
}

/** Sends records, or asks what would become of them. */
export async function send(
  body: string | Blob,
  options: { format: string; service?: string | undefined; isDryRun: boolean },
): Promise<Outcome> {
  const { format, service, isDryRun } = options;
  const target = url('/api/v1/logs', { format, service, dry_run: isDryRun ? 'true' : undefined });
  try {
    return (await (await request(target, { method: 'POST', body })).json()) as Outcome;
  } catch (error) {
    // All records were rejected: what is wrong with each is in the answer.
    if (error instanceof ApiError && error.status === 422) return JSON.parse(error.body) as Outcome;
    throw error;
  }
}
