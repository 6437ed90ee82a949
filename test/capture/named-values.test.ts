/** The hard cases of values, constraints and schemas by name (docs/named-cases.md), each transaction held against SQLite. */
import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { briefly, CaptureScene, images } from '../helpers/capture-scene.ts';

describe('values', () => {
  it('type affinity: every storage class in a column of every affinity', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, i INT, t TEXT, b BLOB, r REAL, n NUMERIC, x)');
    const values = ['NULL', '7', '-9223372036854775808', '7.0', '1e300', "'7'", "'7.5'", "'text'", "x'00ff'", '0', '1', '-0.0'];
    for (const [id, value] of values.entries()) {
      const [changes] = await scene.run(`INSERT INTO a VALUES (${id}, ${value}, ${value}, ${value}, ${value}, ${value}, ${value})`);
      expect(briefly(changes!)).toEqual([`c a ${id}`]);
    }
    const [changes] = await scene.run('UPDATE a SET i = x, t = i, b = t, r = n, n = r, x = b');
    // Rows in which every column already held the same are none.
    expect(changes!.every((change) => change.op === 'u')).toBe(true);
  });

  it('embedded NUL, invalid UTF-8, lone surrogates in UTF-16', async () => {
    for (const encoding of ['UTF-8', 'UTF-16le', 'UTF-16be']) {
      await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT)', { pragmas: [`encoding = '${encoding}'`] });
      const [changes] = await scene.run("INSERT INTO a VALUES (1, 'a' || char(0) || 'b'), (2, '🐝')");
      expect(changes!.map((change) => images(change).after)).toEqual([
        [1, 'a\0b'],
        [2, '🐝'],
      ]);
      // D800 is half a character in UTF-16, ff none in UTF-8.
      const broken =
        encoding === 'UTF-8'
          ? "CAST(x'61ff62' AS TEXT)"
          : encoding === 'UTF-16le'
            ? "CAST(x'610000d86200' AS TEXT)"
            : "CAST(x'0061d8000062' AS TEXT)";
      // Not held against SQLite, which takes half a character and the one behind it for a whole one.
      scene.db.exec(`UPDATE a SET v = ${broken} WHERE id = 1`);
      const [second] = await scene.probe.take();
      expect(images(second![0]).after).toEqual([1, 'a\ufffdb']);
    }
  });

  it('STRICT, generated columns stored and virtual, and what depends on them', async () => {
    await using scene = new CaptureScene(`CREATE TABLE a (id INTEGER PRIMARY KEY, n INT NOT NULL, any ANY,
      virtual INT GENERATED ALWAYS AS (n * 2) VIRTUAL, stored TEXT GENERATED ALWAYS AS (n || '!') STORED) STRICT`);
    const [created] = await scene.run("INSERT INTO a (n, any) VALUES (5, '007')");
    // A virtual column does not stand in the record, and is not captured.
    expect(images(created![0]).after).toEqual([1, 5, '007', '5!']);
    const [updated] = await scene.run('UPDATE a SET n = 6');
    expect(images(updated![0])).toEqual({ before: [1, 5, '007', '5!'], after: [1, 6, '007', '6!'] });
  });

  it('INT PRIMARY KEY and INTEGER PRIMARY KEY DESC are no rowid; AUTOINCREMENT writes sqlite_sequence, which is not captured', async () => {
    await using scene = new CaptureScene(
      'CREATE TABLE i (id INT PRIMARY KEY, v); CREATE TABLE d (id INTEGER PRIMARY KEY DESC, v); CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT, v)',
    );
    expect(
      briefly(
        (
          await scene.run("BEGIN; INSERT INTO i VALUES (7, 'a'), ('x', 'b'); INSERT INTO d VALUES (9, 'c'); INSERT INTO s (v) VALUES ('d'); COMMIT")
        )[0]!,
      ).toSorted(),
    ).toEqual(['c d 9', 'c i 7', 'c i x', 'c s 1']);
    expect(briefly((await scene.run('UPDATE i SET id = 8 WHERE id = 7'))[0]!).toSorted()).toEqual(['c i 8', 'd i 7']);
    expect(briefly((await scene.run("BEGIN; DELETE FROM s; INSERT INTO s (v) VALUES ('e'); COMMIT"))[0]!)).toEqual(['c s 2', 'd s 1']);
  });

  it('UPSERT, cascades and triggers: what changed, whoever changed it', async () => {
    await using scene =
      new CaptureScene(`CREATE TABLE p (id TEXT PRIMARY KEY, n); CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p(id) ON DELETE CASCADE ON UPDATE CASCADE);
      CREATE TABLE log (id INTEGER PRIMARY KEY, what); CREATE TRIGGER told AFTER UPDATE ON p BEGIN INSERT INTO log (what) VALUES (new.id); END`);
    scene.db.pragma('foreign_keys = ON');
    await scene.run("INSERT INTO p VALUES ('a', 1), ('b', 1); INSERT INTO c VALUES (1, 'a'), (2, 'a'), (3, 'b')");
    const [upserted] = await scene.run("INSERT INTO p VALUES ('a', 5), ('z', 5) ON CONFLICT (id) DO UPDATE SET n = n + excluded.n");
    expect(briefly(upserted!).toSorted()).toEqual(['c log 1', 'c p z', 'u p a']);
    expect(briefly((await scene.run("UPDATE p SET id = 'A' WHERE id = 'a'"))[0]!).toSorted()).toEqual([
      'c log 2',
      'c p A',
      'd p a',
      'u c 1',
      'u c 2',
    ]);
    // Children go before their parents.
    expect(briefly((await scene.run("DELETE FROM p WHERE id = 'A'"))[0]!)).toEqual(['d c 1', 'd c 2', 'd p A']);
  });

  it('DELETE without WHERE is a delete of each row', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v)', { pragmas: ['page_size = 512'] });
    await scene.run('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) INSERT INTO a SELECT i, i FROM n');
    const [changes] = await scene.run('DELETE FROM a');
    expect(changes!.length).toBe(700);
    expect(changes!.every((change) => change.op === 'd')).toBe(true);
  });

  it('a wide table of 70 columns of all kinds', async () => {
    const columns = Array.from({ length: 70 }, (_, index) => `c${index} ${['INTEGER', 'TEXT', 'REAL', 'BLOB', 'NUMERIC', ''][index % 6]}`);
    await using scene = new CaptureScene(`CREATE TABLE a (id INTEGER PRIMARY KEY, ${columns.join()})`);
    const values = columns.map(
      (_, index) => [`${index}`, `'text ${index}'`, `${index}.5`, `x'${'ab'.repeat(index)}'`, `'${index}.25'`, 'NULL'][index % 6],
    );
    await scene.run(`INSERT INTO a VALUES (1, ${values.join()})`);
    const [changes] = await scene.run("UPDATE a SET c69 = x'01', c0 = -1");
    const { before, after } = images(changes![0]) as { before: unknown[]; after: unknown[] };
    expect(before.length).toBe(71);
    expect(before.filter((value, index) => String(value) !== String(after[index])).length).toBe(2);
  });
});

describe('schema', () => {
  it('ALTER in all forms: rename table and column, add, drop, in one transaction with rows', async () => {
    await using scene = new CaptureScene(
      "CREATE TABLE a (id INTEGER PRIMARY KEY, b, c DEFAULT 3); INSERT INTO a VALUES (1, 'b', 'c'), (2, 'b', 'c')",
    );
    const changes = (
      await scene.run(
        `BEGIN; ALTER TABLE a RENAME COLUMN b TO bb; ALTER TABLE a ADD COLUMN d DEFAULT 'd'; ALTER TABLE a DROP COLUMN c; UPDATE a SET bb = 'new' WHERE id = 2; COMMIT`,
      )
    ).flat();
    expect(briefly(changes)[0]).toBe('s a');
    expect(briefly((await scene.run("ALTER TABLE a RENAME TO z; INSERT INTO z VALUES (3, 'x', 'y')"))[0]!)).toEqual([
      't a',
      's a',
      's z',
      'c z 1',
      'c z 2',
    ]);
  });

  it('writable_schema edits: a default and a type that nobody altered', async () => {
    await using scene = new CaptureScene("CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT DEFAULT 'old', w); INSERT INTO a (id) VALUES (1), (2)");
    scene.db.unsafeMode(true);
    const changes = (
      await scene.run(`PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'w)', 'w NOT NULL DEFAULT 0 CHECK (w <> 1))') WHERE name = 'a';
        PRAGMA writable_schema = RESET`)
    ).flat();
    expect(briefly(changes)).toEqual(['s a']);
    expect(briefly((await scene.run('INSERT INTO a (id) VALUES (3)'))[0]!)).toEqual(['c a 3']);
  });

  it('1000 tables, one transaction over all of them', { timeout: 60_000 }, async () => {
    const names = Array.from({ length: 1000 }, (_, index) => `t${index}`);
    await using scene = new CaptureScene(names.map((name) => `CREATE TABLE ${name} (id INTEGER PRIMARY KEY, v)`).join(';'), {
      pragmas: ['page_size = 512'],
    });
    const [changes] = await scene.run(`BEGIN; ${names.map((name) => `INSERT INTO ${name} VALUES (1, '${name}')`).join(';')}; COMMIT`);
    expect(changes!.length).toBe(1000);
    expect(briefly((await scene.run('DROP TABLE t500'))[0]!)).toEqual(['t t500', 's t500']);
  });

  it('RTree beside a table: its shadow tables are not captured', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)');
    expect(briefly((await scene.run('BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO r VALUES (1, 0, 5); COMMIT')).flat())).toEqual(['c a 1']);
  });
});

describe('sizes', () => {
  it.each([512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])('page size %i', async (pageSize) => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE TABLE k (id TEXT PRIMARY KEY, v)', {
      pragmas: [`page_size = ${pageSize}`],
    });
    await scene.run(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO a SELECT i, zeroblob(i * 7) FROM n; INSERT INTO k SELECT 'k' || id, v FROM a`,
    );
    const [changes] = await scene.run(
      `BEGIN; UPDATE a SET v = zeroblob(${pageSize * 3}) WHERE id % 50 = 0; DELETE FROM k WHERE length(v) > 1000; COMMIT`,
    );
    expect(changes!.filter(({ op }) => op === 'u').length).toBe(6);
  });

  it('past the lock page at 1 GiB, which no row may stand on', { timeout: 120_000 }, async () => {
    const pageSize = 65536;
    const lockPage = 2 ** 30 / pageSize + 1;
    await using scene = new CaptureScene('', {
      // A sparse file whose next new page is the one before the lock page.
      prepare: (file) => {
        const db = new Database(file);
        db.pragma(`page_size = ${pageSize}`);
        db.exec('CREATE TABLE a (id INTEGER PRIMARY KEY, v)');
        db.close();
        const fd = openSync(file, 'r+');
        const size = Buffer.alloc(4);
        size.writeUInt32BE(lockPage - 2);
        writeSync(fd, size, 0, 4, 28);
        ftruncateSync(fd, (lockPage - 2) * pageSize);
        closeSync(fd);
      },
    });
    const [changes] = await scene.run(`INSERT INTO a VALUES (1, 'small'), (2, zeroblob(${pageSize * 5} ) || 'end'), (3, 'last')`);
    expect(briefly(changes!)).toEqual(['c a 1', 'c a 2', 'c a 3']);
    const { map } = scene.probe.replica;
    expect([-1, 0, 1].map((offset) => map.treeOf(lockPage + offset) !== 0)).toEqual([true, false, true]);
    expect(briefly((await scene.run("UPDATE a SET v = CAST(zeroblob(300000) || 'other' AS BLOB) WHERE id = 2"))[0]!)).toEqual(['u a 2']);
    scene.db.pragma('wal_checkpoint(TRUNCATE)');
    expect(statSync(scene.db.name).size).toBeGreaterThan(2 ** 30);
  });
});
