/** Calls `ask` now and every `everyMs` while the page is looked at, until the returned function is called. */
export function poll(ask: (signal: AbortSignal) => Promise<void>, everyMs: number): () => void {
  const abort = new AbortController();
  let isAsking = false;
  const once = async () => {
    if (isAsking || document.hidden) return;
    isAsking = true;
    await ask(abort.signal).finally(() => (isAsking = false));
  };
  void once();
  const timer = setInterval(() => void once(), everyMs);
  return () => {
    clearInterval(timer);
    abort.abort();
  };
}
