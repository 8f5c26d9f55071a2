const STORED_AS = 'thalweg.sql';
const MOST = 50;

/** Queries asked in this browser, the last one first. */
class QueryHistory {
  all = $state<string[]>(stored());

  add(query: string): void {
    this.all = [query, ...this.all.filter((other) => other !== query)].slice(0, MOST);
    localStorage.setItem(STORED_AS, JSON.stringify(this.all));
  }

  clear(): void {
    this.all = [];
    localStorage.removeItem(STORED_AS);
  }
}

function stored(): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(STORED_AS) ?? '[]');
    return Array.isArray(found) ? found.filter((query) => typeof query === 'string') : [];
  } catch {
    return [];
  }
}

export const queryHistory = new QueryHistory();
