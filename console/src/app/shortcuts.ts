/** A key, or two one after the other such as `g l`, that does something on the page shown. */
export interface Shortcut {
  keys: string;
  does: string;
  run: () => void;
}

/** How long the first of two keys waits for the second, in milliseconds. */
const SEQUENCE_MS = 1_500;

const registered = new Set<Shortcut>();
let first: { key: string; at: number } | undefined;

/** Offers shortcuts until the returned function is called; for `$effect`. */
export function offer(...shortcuts: Shortcut[]): () => void {
  for (const shortcut of shortcuts) registered.add(shortcut);
  return () => {
    for (const shortcut of shortcuts) registered.delete(shortcut);
  };
}

/** What can be pressed now, for the help sheet. */
export function offered(): Shortcut[] {
  return [...registered];
}

/** Runs what the key means, unless the user is writing. */
export function press(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event)) return;
  if (document.querySelector('dialog[open]')) return;
  const now = performance.now();
  const sequence = first && now - first.at < SEQUENCE_MS ? `${first.key} ${event.key}` : undefined;
  first = undefined;
  const matching = (keys: string | undefined) => [...registered].find((shortcut) => shortcut.keys === keys);
  const shortcut = matching(sequence) ?? matching(event.key);
  if (shortcut) {
    event.preventDefault();
    shortcut.run();
  } else if ([...registered].some((shortcut) => shortcut.keys.startsWith(`${event.key} `))) {
    first = { key: event.key, at: now };
  }
}

function isWriting(event: KeyboardEvent): boolean {
  const target = event.composedPath()[0];
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName);
}
