/** How long a notice stays, in milliseconds. */
const SHOWN_MS = 4_000;

/** A short word about what was just done, read out by screen readers. */
class Notice {
  text = $state('');
  #timer: ReturnType<typeof setTimeout> | undefined;

  say(text: string): void {
    this.text = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.text = ''), SHOWN_MS);
  }

  /** Copies a text and says so. */
  async copy(text: string, what: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      this.say(`${what} copied`);
    } catch {
      this.say(`${what} could not be copied: the browser forbids it`);
    }
  }
}

export const notice = new Notice();
