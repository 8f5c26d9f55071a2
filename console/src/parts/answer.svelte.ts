import { isAbort } from '../api/client';

/** What a question was answered with last, or why it was not. */
export class Answer<T> {
  value = $state.raw<T | undefined>();
  error = $state.raw<unknown>();

  /** Asks; an answer that nobody waits for any more changes nothing. */
  async ask(question: Promise<T>): Promise<void> {
    try {
      this.value = await question;
      this.error = undefined;
    } catch (error) {
      if (!isAbort(error)) this.error = error;
    }
  }
}
