import { readFileSync } from 'node:fs';
import openapiTS, { astToString, COMMENT_HEADER } from 'openapi-typescript';
import { expect, test } from 'vitest';
import { run } from './thalweg';

test('the types of the API are those of the server; `npm run types` writes them anew', async () => {
  const document = JSON.parse(run('schema', 'openapi'));
  const types = COMMENT_HEADER + astToString(await openapiTS(document));
  expect(readFileSync('src/api/schema.d.ts', 'utf8')).toBe(types);
});
