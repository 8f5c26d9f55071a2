/** A search that the user gave a name: the state of the page, as in its URL. */
export interface SavedSearch {
  name: string;
  query: string;
}

const STORED_AS = 'thalweg.searches';

/** Searches kept in this browser. */
class SavedSearches {
  all = $state<SavedSearch[]>(stored());

  save(name: string, query: string): void {
    this.#keep([...this.all.filter((search) => search.name !== name), { name, query }]);
  }

  remove(name: string): void {
    this.#keep(this.all.filter((search) => search.name !== name));
  }

  #keep(searches: SavedSearch[]): void {
    this.all = searches.sort((a, b) => a.name.localeCompare(b.name));
    localStorage.setItem(STORED_AS, JSON.stringify(this.all));
  }
}

function stored(): SavedSearch[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(STORED_AS) ?? '[]');
    if (!Array.isArray(found)) return [];
    return found.filter((one): one is SavedSearch => typeof one?.name === 'string' && typeof one?.query === 'string');
  } catch {
    return [];
  }
}

export const savedSearches = new SavedSearches();
