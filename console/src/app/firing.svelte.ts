import { getJson } from '../api/client';
import type { components } from '../api/schema';
import { session } from '../api/session.svelte';

const EVERY_MS = 5_000;

/** How many alerts fire, for the badge beside the page's name. */
class Firing {
  count = $state(0);

  /** Keeps the number current until the returned function is called. */
  watch(): () => void {
    const ask = async () => {
      if (session.needsToken || document.hidden || !session.may('query')) return;
      const wanted = { state: 'firing', muted: 'false', limit: 1 };
      const answer = await getJson<components['schemas']['AlertsAnswer']>('/api/v1/alerts', wanted).catch(() => undefined);
      this.count = answer?.total ?? 0;
    };
    void ask();
    const timer = setInterval(() => void ask(), EVERY_MS);
    return () => clearInterval(timer);
  }
}

export const firing = new Firing();
