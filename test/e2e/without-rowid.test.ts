/** WITHOUT ROWID tables through `waggle run` into a copy: first fill in chunks, a kill in the middle, then the stream. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { difference, readSqliteRows, readSqliteRowsLike } from '../helpers/row-sets.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { until } from '../helpers/until.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const ROWS = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) SELECT';

describe('WITHOUT ROWID tables and a sqlite sink', () => {
  it('the copy holds what the hive holds, also after a kill', { timeout: 120_000 }, async () => {
    using directory = temporaryDirectory();
    const cwd = directory.path;
    const [hive, copy] = [join(cwd, 'app.sqlite'), join(cwd, 'copy.sqlite')];
    const database = new Database(hive);
    database.pragma('journal_mode = WAL');
    database.exec(`
      CREATE TABLE w (v, k TEXT, n INTEGER, PRIMARY KEY (k DESC, n)) WITHOUT ROWID;
      CREATE TABLE c (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
      INSERT INTO w ${ROWS} hex(zeroblob(60)), 'key ' || (i % 5000), i FROM n; INSERT INTO c ${ROWS} 'Key ' || i, i FROM n`);
    writeFileSync(join(cwd, 'waggle.yaml'), 'hive: app.sqlite\nsinks: { copy: { type: sqlite, file: copy.sqlite } }\n');
    {
      await using killed = new WaggleProcess(['run'], { cwd });
      await killed.untilReady();
      database.exec("UPDATE w SET v = 'during' WHERE n % 50 = 0; DELETE FROM c WHERE v % 7 = 0; UPDATE c SET k = upper(k) WHERE v % 11 = 0");
      await killed.kill();
    }
    await using daemon = new WaggleProcess(['run'], { cwd });
    await daemon.untilReady();
    database.exec("DELETE FROM w WHERE n % 3 = 0; UPDATE c SET v = 'after' WHERE k < 'key 2'; REPLACE INTO c VALUES ('KEY 1', 'replaced')");
    const compared = (): ReturnType<typeof difference> => {
      const rows = readSqliteRows(hive, 'exact');
      return difference(rows, readSqliteRowsLike(copy, rows, 'exact'));
    };
    const equal = await until(
      'the copy to hold what the hive holds',
      () => {
        const found = compared();
        return found.missing + found.surplus === 0 ? found : undefined;
      },
      { deadlineMs: 60_000 },
    );
    expect(equal.rows).toBeGreaterThan(40_000);
    await daemon.stop();
    database.close();
  });
});
