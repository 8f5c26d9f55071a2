import { expect, test } from 'vitest';
import { events, type ServerEvent } from './sse';

async function read(...chunks: string[]): Promise<ServerEvent[]> {
  const bytes = chunks.map((chunk) => new TextEncoder().encode(chunk));
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of bytes) controller.enqueue(chunk);
      controller.close();
    },
  });
  const found: ServerEvent[] = [];
  for await (const event of events(body)) found.push(event);
  return found;
}

test('an event may be cut anywhere', async () => {
  expect(await read('data: {"a"', ':1}\n', '\ndata: 2\n\n')).toEqual([
    { name: 'message', data: '{"a":1}' },
    { name: 'message', data: '2' },
  ]);
});

test('heartbeats are no events, and events have names', async () => {
  expect(await read(': heartbeat\n\nevent: dropped\ndata: {"rows":3}\n\n')).toEqual([
    { name: 'dropped', data: '{"rows":3}' },
  ]);
});
