/**
 * npm run sinks-table: runs the connector tests and writes into docs/sinks.md which property of the conformance suites each connector was
 * seen to have, between the two marks. Exit status 1 if a test failed.
 *
 *     node test/connectors/write-sinks-table.ts [report.json of an earlier run]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly title: string; readonly ancestorTitles: readonly string[]; readonly status: string }[];
  }[];
}

const ROOT = join(import.meta.dirname, '..', '..');
const DOCUMENT = join(ROOT, 'docs/sinks.md');
const MARKS = ['<!-- written by npm run sinks-table -->', '<!-- end -->'] as const;
const SUITES = [...['values', 'rows', 'schema', 'batches', 'random'].map((subject) => `conformance/${subject}.ts`), 'audit-conformance.ts'];

/** Titles of the suites' tests, in their order. */
export const properties = (): string[] =>
  SUITES.flatMap((suite) =>
    [...readFileSync(join(import.meta.dirname, suite), 'utf8').matchAll(/^\s+it\(\s*(['"])(.+?)\1/gm)].map(([, , title]) =>
      title!.replaceAll("\\'", "'"),
    ),
  );

const runTests = (): Report => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-sinks-table-'));
  try {
    const file = join(directory, 'report.json');
    const args = ['vitest', 'run', 'test/connectors', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
    spawnSync('npx', args, { cwd: ROOT, stdio: 'inherit', env: { ...process.env, WAGGLE_REQUIRE_SERVERS: '1' } });
    return JSON.parse(readFileSync(file, 'utf8')) as Report;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

/** By connector (`mongodb (rs)` where a file tells of two) and property: whether every run of it passed. */
const results = (report: Report): Map<string, Map<string, boolean>> => {
  const found = new Map<string, Map<string, boolean>>();
  const known = new Set(properties());
  for (const { name, assertionResults } of report.testResults) {
    if (!name.includes('test/connectors/')) continue;
    const kind = basename(name, '.test.ts');
    for (const { title, ancestorTitles, status } of assertionResults) {
      // What a target cannot promise is skipped by name.
      if (!known.has(title) || !['passed', 'failed'].includes(status)) continue;
      const variant = /\b(rs|standalone)\b/.exec(ancestorTitles[0] ?? '')?.[1];
      const connector = variant === undefined ? kind : `${kind} (${variant})`;
      const of = found.get(connector) ?? new Map<string, boolean>();
      found.set(connector, of.set(title, (of.get(title) ?? true) && status === 'passed'));
    }
  }
  return found;
};

const tableOf = (found: ReadonlyMap<string, ReadonlyMap<string, boolean>>): string => {
  const connectors = [...found.keys()];
  const mark = (passed: boolean | undefined): string => (passed === undefined ? '–' : passed ? '✓' : '**fails**');
  const rows = properties().map((property) => [property, ...connectors.map((connector) => mark(found.get(connector)!.get(property)))]);
  return [['property', ...connectors], ['---', ...connectors.map(() => ':-:')], ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
};

if (import.meta.main) {
  const [path] = process.argv.slice(2);
  const found = results(path === undefined ? runTests() : (JSON.parse(readFileSync(path, 'utf8')) as Report));
  const document = readFileSync(DOCUMENT, 'utf8');
  const [before, rest] = document.split(MARKS[0]);
  const after = rest?.split(MARKS[1])[1];
  if (before === undefined || after === undefined) throw new Error(`${DOCUMENT} does not have the marks ${MARKS.join(' and ')}`);
  writeFileSync(DOCUMENT, `${before}${MARKS[0]}\n\n${tableOf(found)}\n\n${MARKS[1]}${after}`);
  if ([...found.values()].some((of) => [...of.values()].includes(false))) process.exitCode = 1;
}
