/** docs/named-cases.md names tests that are there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const rows = readFileSync(join(ROOT, 'docs/named-cases.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| case '))
  .map((line) => line.slice(2, -2).split(' | '))
  .map(([name, tests]) => ({ name, tests: tests!.split('<br>') }));

/** Files that are named whole. */
const SEE = /^see `(test\/[\w/-]+\.test\.ts)`$/;

it('has a table', () => {
  expect(rows.length).toBeGreaterThan(70);
  for (const { name, tests } of rows) expect([name === '', tests.length > 0], `the row of ${name}`).toEqual([false, true]);
});

it.each(rows.filter(({ tests }) => !SEE.test(tests[0]!)))('$name', ({ tests }) => {
  for (const test of tests) {
    const [, file, title] = /^`(test\/[\w/-]+\.test\.ts)` › (.+)$/.exec(test) ?? [];
    expect(file, `not a file and a title: ${test}`).toBeDefined();
    expect(existsSync(join(ROOT, file!)), `there is no ${file}`).toBe(true);
    const source = readFileSync(join(ROOT, file!), 'utf8').replaceAll("\\'", "'");
    // As the title of a test or of a row of its table: in quotes, or as a piece of a template.
    const isThere =
      [`'${title}'`, `"${title}"`, `\`${title}\``].some((quoted) => source.includes(quoted)) ||
      new RegExp(`\`[^\`]*${RegExp.escape(title!)}[^\`]*\``).test(source);
    expect(isThere, `there is no ${test}`).toBe(true);
  }
});
