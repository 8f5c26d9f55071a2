import { isAbort, messageOf } from '../api/client';
import { page, tail, type LogRow, type Selection } from '../api/logs';

/** Rows of a page: the most that the API gives at once. */
const PAGE_ROWS = 1_000;
/** Rows of the first page, which is waited for. */
const FIRST_ROWS = 200;
/** Most rows kept, of a search. */
export const MAX_ROWS = 100_000;
/** Most rows kept while following the log: older ones make room. */
const MAX_LIVE_ROWS = 10_000;
/** How often rows that arrived are shown, in milliseconds. */
const SHOW_EVERY_MS = 100;
/** Wait before a broken connection is opened again, in milliseconds. */
const RECONNECT_MS = 1_000;

/** The rows that match a search, newest first: pages of it, or the log as it grows. */
export class LogFeed {
  rows = $state.raw<LogRow[]>([]);
  isLoading = $state(false);
  /** Whether there are rows beyond the last one shown. */
  hasMore = $state(false);
  error = $state.raw<unknown>();
  /** While true, rows that arrive wait to be shown. */
  isPaused = $state(false);
  /** Rows that wait. */
  waiting = $state(0);
  /** Rows that the server left out because we read too slowly. */
  dropped = $state(0);

  #cursor: string | undefined;
  #selection: Selection = {};
  #abort = new AbortController();

  /** Begins with the first page of another search. */
  async load(selection: Selection): Promise<void> {
    this.stop();
    this.#selection = selection;
    this.#cursor = undefined;
    this.dropped = 0;
    await this.#read(FIRST_ROWS, []);
  }

  /** Adds the next page. */
  async more(): Promise<void> {
    if (this.isLoading || !this.hasMore || this.rows.length >= MAX_ROWS) return;
    await this.#read(Math.min(PAGE_ROWS, MAX_ROWS - this.rows.length), this.rows);
  }

  /** Shows the latest rows, and those that arrive until `stop`. */
  async follow(q: string): Promise<void> {
    this.stop();
    const { signal } = this.#abort;
    this.isPaused = false;
    this.dropped = 0;
    const arrived: LogRow[] = [];
    const timer = setInterval(() => this.#show(arrived), SHOW_EVERY_MS);
    signal.addEventListener('abort', () => clearInterval(timer));
    // Followed first and read second, no row is missed between; those in both are shown once.
    const following = this.#follow(q, arrived, signal);
    this.#selection = { q };
    this.#cursor = undefined;
    await this.#read(FIRST_ROWS, []);
    this.hasMore = false;
    await following;
  }

  stop(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.isLoading = false;
    this.waiting = 0;
  }

  async #follow(q: string, arrived: LogRow[], signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const tailed of tail(q, signal)) {
          this.error = undefined;
          if ('row' in tailed) arrived.push(tailed.row);
          else this.dropped += tailed.dropped;
          if (arrived.length > MAX_LIVE_ROWS) arrived.splice(0, arrived.length - MAX_LIVE_ROWS);
        }
      } catch (error) {
        if (signal.aborted || isAbort(error)) return;
        this.error = new Error(`the live log broke off: ${messageOf(error)}; trying again`);
      }
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
    }
  }

  #show(arrived: LogRow[]): void {
    if (this.isPaused || this.isLoading || arrived.length === 0) {
      this.waiting = this.isPaused ? arrived.length : 0;
      return;
    }
    this.waiting = 0;
    const known = new Set(this.rows.slice(0, arrived.length + FIRST_ROWS).map((row) => row.event_id));
    const fresh = arrived.splice(0).filter((row) => !known.has(row.event_id));
    fresh.sort((a, b) => (a.timestamp < b.timestamp ? 1 : -1));
    this.rows = [...fresh, ...this.rows].slice(0, MAX_LIVE_ROWS);
  }

  async #read(limit: number, before: LogRow[]): Promise<void> {
    const { signal } = this.#abort;
    this.isLoading = true;
    try {
      const found = await page(this.#selection, { limit, cursor: this.#cursor }, signal);
      if (signal.aborted) return;
      this.rows = before.length === 0 ? found.rows : before.concat(found.rows);
      this.#cursor = found.next_cursor ?? undefined;
      this.hasMore = this.#cursor !== undefined;
      this.error = undefined;
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      this.error = error;
      this.hasMore = false;
      if (before.length === 0) this.rows = [];
    }
    this.isLoading = false;
  }
}
