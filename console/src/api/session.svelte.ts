import type { components } from './schema';

export type Identity = components['schemas']['Identity'];

/**
 * Who we are to the server. The token is kept in memory only: neither in URLs nor in any storage
 * that other pages, other users of the machine or a later script could read.
 */
class Session {
  /** Whether the server asked for a token that we do not have. */
  needsToken = $state(false);
  identity = $state<Identity | undefined>();
  #token: string | undefined;

  get headers(): Record<string, string> {
    return this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` };
  }

  get hasToken(): boolean {
    return this.#token !== undefined;
  }

  /** Shows this token from now on; whether it is good, an answer tells. */
  show(token: string): void {
    this.#token = token;
  }

  /** Goes on as whom the server takes us for. */
  enter(identity: Identity): void {
    this.identity = identity;
    this.needsToken = false;
  }

  forget(): void {
    this.#token = undefined;
    this.identity = undefined;
    this.needsToken = true;
  }

  may(scope: 'ingest' | 'query' | 'admin'): boolean {
    return this.identity?.scopes.includes(scope) ?? false;
  }
}

export const session = new Session();
