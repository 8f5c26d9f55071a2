import type { Component } from 'svelte';
import type { IconName } from '../parts/icons';

export interface Page {
  path: string;
  title: string;
  icon: IconName;
  /** Pressed after `g`, goes there. */
  key: string;
  load: () => Promise<{ default: Component }>;
}

/** The pages, in the order in which they are shown. Each is loaded when it is first opened. */
export const PAGES: Page[] = [
  { path: '/logs', title: 'Logs', icon: 'logs', key: 'l', load: () => import('../logs/LogsPage.svelte') },
  { path: '/traces', title: 'Traces', icon: 'traces', key: 't', load: () => import('../traces/TracesPage.svelte') },
  { path: '/services', title: 'Services', icon: 'services', key: 's', load: () => import('../services/ServicesPage.svelte') },
  { path: '/alerts', title: 'Alerts', icon: 'alerts', key: 'a', load: () => import('../alerts/AlertsPage.svelte') },
  { path: '/patterns', title: 'Patterns', icon: 'patterns', key: 'p', load: () => import('../patterns/PatternsPage.svelte') },
  { path: '/sql', title: 'SQL', icon: 'sql', key: 'q', load: () => import('../sql/SqlPage.svelte') },
  { path: '/system', title: 'System', icon: 'system', key: 'y', load: () => import('../system/SystemPage.svelte') },
  { path: '/send', title: 'Send', icon: 'send', key: 'e', load: () => import('../send/SendPage.svelte') },
];

/** The page at a path; `/` shows the logs. */
export function pageAt(path: string): Page | undefined {
  return PAGES.find((page) => page.path === (path === '/' ? '/logs' : path));
}
