import { expect, test } from 'vitest';
import { curl } from './export';

test('a search is one word of the shell, whatever is in it', () => {
  expect(curl({ from: '-15m', q: "it's \"$HOME\" & more" }, 'http://127.0.0.1:7070')).toBe(
    "curl 'http://127.0.0.1:7070/api/v1/logs?from=-15m&q=it%27s+%22%24HOME%22+%26+more'",
  );
});
