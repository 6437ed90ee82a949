/** docs/sinks.md tells of the properties that the conformance suites have. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { properties } from '../connectors/write-sinks-table.ts';

it('the table has a row for each property, written by npm run sinks-table', () => {
  const document = readFileSync(join(import.meta.dirname, '..', '..', 'docs/sinks.md'), 'utf8');
  const rows = [...document.matchAll(/^\| (?!property|---)(.+?) \|/gm)].map(([, name]) => name);
  expect(rows.length).toBeGreaterThan(25);
  expect(rows).toEqual(properties());
  expect(document).not.toContain('**fails**');
});
