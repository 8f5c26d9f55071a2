export type Theme = 'system' | 'light' | 'dark';

const STORED_AS = 'thalweg.theme';
const darkness = window.matchMedia('(prefers-color-scheme: dark)');

/** Light or dark: as the system has it, unless the user chose. */
class ThemeChoice {
  chosen = $state<Theme>(stored());
  #systemIsDark = $state(darkness.matches);

  constructor() {
    darkness.addEventListener('change', (event) => {
      this.#systemIsDark = event.matches;
      this.#apply();
    });
    this.#apply();
  }

  get isDark(): boolean {
    return this.chosen === 'dark' || (this.chosen === 'system' && this.#systemIsDark);
  }

  toggle(): void {
    this.chosen = this.isDark ? 'light' : 'dark';
    localStorage.setItem(STORED_AS, this.chosen);
    this.#apply();
  }

  #apply(): void {
    document.documentElement.dataset.theme = this.isDark ? 'dark' : 'light';
  }
}

function stored(): Theme {
  const value = localStorage.getItem(STORED_AS);
  return value === 'light' || value === 'dark' ? value : 'system';
}

export const theme = new ThemeChoice();
