/** `capture.delete_all: event`: a transaction that leaves a table without rows gives one `t`. Each step is held against SQLite's state. */
import { describe, expect, it } from 'vitest';
import { briefly, CaptureScene } from '../helpers/capture-scene.ts';

const SETUP = `
  CREATE TABLE parent (id INTEGER PRIMARY KEY, v);
  CREATE TABLE child (k TEXT PRIMARY KEY, parent REFERENCES parent ON DELETE CASCADE, v) WITHOUT ROWID;`;
const ROWS = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT';
const FILL = `INSERT INTO parent ${ROWS} i, zeroblob(CASE WHEN i % 50 = 0 THEN 9000 ELSE 5 END) FROM n; INSERT INTO child ${ROWS} 'k' || i, i, zeroblob(i) FROM n`;

describe('DELETE without WHERE', () => {
  const rowByRow = ['child', 'parent'].flatMap((table) => Array.from({ length: 300 }, () => `d ${table}`));
  it.each([
    ['event', ['t child', 't parent']],
    ['rows', rowByRow],
  ] as const)('%s: children first', async (deleteAll, expected) => {
    await using scene = new CaptureScene(SETUP, { deleteAll, pragmas: ['page_size = 512'] });
    await scene.run(FILL);
    const changes = (await scene.run('BEGIN; DELETE FROM child; DELETE FROM parent; COMMIT')).flat();
    expect(briefly(changes).map((change) => change.split(' ', 2).join(' '))).toEqual(expected);
    // The pages are free again, and the map knows it.
    await scene.run(FILL);
    await scene.run('PRAGMA foreign_keys = ON; DELETE FROM parent WHERE id <= 300');
  });

  it('event: rows that come after it in the same transaction are told one by one', async () => {
    await using scene = new CaptureScene(SETUP, { deleteAll: 'event' });
    await scene.run('INSERT INTO parent VALUES (1, 1), (2, 2)');
    expect((await scene.run('BEGIN; DELETE FROM parent; INSERT INTO parent VALUES (2, 2), (3, 3); COMMIT')).map(briefly)).toEqual([
      ['c parent 3', 'd parent 1'],
    ]);
    expect((await scene.run('DELETE FROM child')).map(briefly)).toEqual([]);
  });
});
