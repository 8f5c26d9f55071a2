import { session, type Identity } from './session.svelte';

/** An answer that is not a success: what the server said was wrong, and where. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Place in the query or the search, from one, where the server knows it. */
    readonly position?: { line: number | undefined; column: number },
    /** The answer as it came. */
    readonly body = '',
  ) {
    super(message);
  }
}

type Parameters = Record<string, string | number | undefined>;

/** Path and query string, without parameters that have no value. */
export function url(path: string, parameters: Parameters = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== '') query.set(name, String(value));
  }
  const text = query.toString();
  return text === '' ? path : `${path}?${text}`;
}

/** Asks the server, with the session's token. Throws `ApiError` unless it succeeds. */
export async function request(target: string, init: RequestInit = {}): Promise<Response> {
  const headers = { ...session.headers, ...(init.headers as Record<string, string> | undefined) };
  const response = await fetch(target, { ...init, headers, credentials: 'omit' });
  if (response.ok) return response;
  if (response.status === 401) session.forget();
  throw await errorOf(response);
}

export async function getJson<T>(path: string, parameters?: Parameters, signal?: AbortSignal): Promise<T> {
  const response = await request(url(path, parameters), { signal: signal ?? null });
  return (await response.json()) as T;
}

export async function postJson<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const response = await request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
  return (await response.json()) as T;
}

/** Asks who we are; `session.needsToken` tells when the server wants a token first. */
export async function identify(): Promise<void> {
  session.enter(await getJson<Identity>('/api/v1/me'));
}

/** Whether an error is only the end of a request that nobody waits for any more. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  const { message, line, column } = described(text);
  const position = column === undefined ? undefined : { line, column };
  return new ApiError(response.status, message || `the server answered ${response.status}`, position, text);
}

/** What an answer says is wrong: an object that tells where, a text, or no JSON at all. */
function described(text: string): { message: string; line?: number; column?: number } {
  try {
    const { error } = JSON.parse(text) as { error?: string | { message: string; line?: number; column?: number } };
    if (typeof error === 'string') return { message: error };
    if (error) return error;
  } catch {
    // Not JSON: the text itself is what the server says.
  }
  return { message: text.trim() };
}
