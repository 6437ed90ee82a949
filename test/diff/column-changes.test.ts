/** Rows of a table whose columns changed in the same transaction. */
import { describe, expect, it } from 'vitest';
import { briefly, CaptureScene } from '../helpers/capture-scene.ts';

describe('rows of an altered table', () => {
  it('tells an update from bytes that are no text to others that are none either', async () => {
    await using scene = new CaptureScene("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, CAST(x'ff' AS TEXT)), (2, 'a')");
    const [changes] = await scene.run("BEGIN; ALTER TABLE t ADD COLUMN y; UPDATE t SET x = CAST(x'fe' AS TEXT) WHERE id = 1; COMMIT");
    expect(briefly(changes!)).toEqual(['s t', 'u t 1']);
  });

  it('tells nothing of a row that holds such bytes and stayed as it was', async () => {
    await using scene = new CaptureScene("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, CAST(x'ff' AS TEXT)), (2, 'a')");
    const [changes] = await scene.run("BEGIN; ALTER TABLE t ADD COLUMN y; UPDATE t SET x = 'b' WHERE id = 2; COMMIT");
    expect(briefly(changes!)).toEqual(['s t', 'u t 2']);
  });
});

describe('columns that swap their names', () => {
  it('tells nothing of a row that holds the same bytes in both, though they are no text', async () => {
    await using scene = new CaptureScene(
      "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, CAST(x'fe' AS TEXT), CAST(x'fe' AS TEXT)), (2, CAST(x'fe' AS TEXT), CAST(x'ff' AS TEXT))",
    );
    const [changes] = await scene.run(
      'BEGIN; ALTER TABLE t RENAME COLUMN x TO z; ALTER TABLE t RENAME COLUMN y TO x; ALTER TABLE t RENAME COLUMN z TO y; COMMIT',
    );
    expect(briefly(changes!)).toEqual(['s t', 'u t 2']);
  });
});

describe('rows that SQLite writes anew without a change', () => {
  it.each([
    ['records older than a column', 'UPDATE t SET x = x', []],
    [
      'deleted and inserted again',
      'BEGIN; CREATE TEMP TABLE k AS SELECT * FROM t; DELETE FROM t; INSERT INTO t SELECT * FROM k; DROP TABLE k; COMMIT',
      [],
    ],
    ['one of them changes', "UPDATE t SET x = iif(id = 2, 'z', x)", ['u t 2']],
    ['a default that is given up', 'UPDATE t SET y = NULL WHERE id = 1', ['u t 1']],
    ['a double that comes to be an integer', 'UPDATE t SET r = r + 0.0', []],
  ])('%s', async (_name, sql, expected) => {
    await using scene = new CaptureScene(
      "CREATE TABLE t (id INTEGER PRIMARY KEY, x, r REAL); INSERT INTO t SELECT value, 'x', value * 0.5 * 2 FROM json_each('[1, 2, 3]'); ALTER TABLE t ADD COLUMN y DEFAULT 'd'",
    );
    expect((await scene.run(sql)).flatMap((changes) => briefly(changes))).toEqual(expected);
  });
});
