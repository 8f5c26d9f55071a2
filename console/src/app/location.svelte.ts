/**
 * Where the user is: the page and its state, all of it in the URL, so that a link to what is seen
 * can be shared and `back` undoes.
 */
class Location {
  path = $state(window.location.pathname);
  query = $state(new URLSearchParams(window.location.search));

  constructor() {
    window.addEventListener('popstate', () => this.#read());
  }

  get(name: string): string | undefined {
    return this.query.get(name) ?? undefined;
  }

  /** Goes to a page, as following a link does. */
  go(target: string): void {
    if (target !== window.location.pathname + window.location.search) history.pushState(null, '', target);
    this.#read();
  }

  /** Changes parameters of this page; with `undefined`, takes them away. */
  set(changes: Record<string, string | undefined>, how: 'push' | 'replace' = 'push'): void {
    const query = new URLSearchParams(window.location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined || value === '') query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    const target = text === '' ? this.path : `${this.path}?${text}`;
    if (target === window.location.pathname + window.location.search) return;
    if (how === 'push') history.pushState(null, '', target);
    else history.replaceState(null, '', target);
    this.#read();
  }

  #read(): void {
    this.path = window.location.pathname;
    this.query = new URLSearchParams(window.location.search);
  }
}

export const location = new Location();

/** Takes over clicks on links within the console; leaves all others to the browser. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  const link = event.target instanceof Element ? event.target.closest('a') : null;
  if (!link || link.target || link.hasAttribute('download') || link.origin !== window.location.origin) return;
  if (!link.hasAttribute('data-page')) return;
  event.preventDefault();
  location.go(link.pathname + link.search);
}
