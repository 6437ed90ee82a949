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
