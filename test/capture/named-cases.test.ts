/** The hard cases of rowid tables by name (docs: the table of cases). After each transaction state and page map are held against SQLite. */
import { describe, expect, it } from 'vitest';
import { briefly, CaptureScene, images } from '../helpers/capture-scene.ts';

const numbers = (count: number): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})`;

describe('pages', () => {
  it('INSERT until a root splits twice, DELETE back until it collapses', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v)', { pragmas: ['page_size = 512'] });
    let count = 0;
    for (let id = 1; id <= 3000; id += 50) {
      const [changes] = await scene.run(`INSERT INTO a ${numbers(50)} SELECT ${id} + i, 'row number ' || i FROM n`);
      count += changes!.length;
    }
    expect(count).toBe(3000);
    for (let id = 3001; id > 1; id -= 100) {
      const [changes] = await scene.run(`DELETE FROM a WHERE id BETWEEN ${id - 99} AND ${id}`);
      count -= changes!.length;
    }
    expect(count).toBe(0);
  });

  it('DELETE FROM a; INSERT INTO b VALUES(1, zeroblob(9999)) in one transaction', async () => {
    await using scene = new CaptureScene(
      `CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE TABLE b (id INTEGER PRIMARY KEY, v);
      INSERT INTO a ${numbers(400)} SELECT i, 'x' || i FROM n`,
      { pragmas: ['page_size = 512'] },
    );
    const [changes] = await scene.run('BEGIN; DELETE FROM a; INSERT INTO b VALUES(1, zeroblob(9999)); COMMIT');
    expect(changes!.length).toBe(401);
    expect(briefly(changes!)[0]).toBe('c b 1');
    expect(
      briefly(changes!)
        .slice(1)
        .every((line) => line.startsWith('d a ')),
    ).toBe(true);
  });

  it('a same-size overflow update after a split touches only the chain', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v BLOB)', { pragmas: ['page_size = 1024'] });
    await scene.run('INSERT INTO a VALUES (500, randomblob(20000))');
    // Splits the leaf again and again: the cell moves, the chain does not.
    for (let id = 1; id < 40; id += 1) await scene.run(`INSERT INTO a VALUES (${id * 25 + 1}, zeroblob(150))`);
    scene.db.prepare("UPDATE a SET v = CAST(substr(v, 1, 15000) || x'00ff00ff' || substr(v, 15005) AS BLOB) WHERE id = 500").run();
    const [changes] = await scene.take();
    expect(briefly(changes!)).toEqual(['u a 500']);
  });

  it('a same-size update in the middle of a large blob (as an incremental blob write does it)', async () => {
    await using scene = new CaptureScene(
      'CREATE TABLE a (id INTEGER PRIMARY KEY, v BLOB); INSERT INTO a VALUES (1, zeroblob(300000)), (2, zeroblob(300000))',
    );
    const [changes] = await scene.run("UPDATE a SET v = CAST(substr(v, 1, 200000) || x'01' || substr(v, 200002) AS BLOB) WHERE id = 2");
    expect(briefly(changes!)).toEqual(['u a 2']);
    const { before, after } = images(changes![0]) as { before: [number, Buffer]; after: [number, Buffer] };
    expect([before[1][200000], after[1][200000], after[1].length]).toEqual([0, 1, 300000]);
  });

  it('records of more than 1 MB grow, shrink and go', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v BLOB)', { pragmas: ['page_size = 65536'] });
    for (const size of [3_000_000, 1_200_000, 70_000, 60_000, 5_000_000]) {
      const [changes] = await scene.run(`REPLACE INTO a VALUES (1, zeroblob(${size}))`);
      expect(changes!.length).toBe(1);
    }
    const [changes] = await scene.run('DELETE FROM a');
    expect(briefly(changes!)).toEqual(['d a 1']);
  });

  it('cache spill with rollback leaves nothing', async () => {
    await using scene = new CaptureScene(`CREATE TABLE a (id INTEGER PRIMARY KEY, v); INSERT INTO a ${numbers(2000)} SELECT i, i FROM n`);
    scene.db.pragma('cache_size = 5');
    expect(
      await scene.run(
        `BEGIN; UPDATE a SET v = v || 'a longer value for all of them'; INSERT INTO a ${numbers(5000)} SELECT i + 2000, i FROM n; ROLLBACK`,
      ),
    ).toEqual([]);
    const [changes] = await scene.run(`BEGIN; SAVEPOINT s; UPDATE a SET v = zeroblob(900); ROLLBACK TO s; UPDATE a SET v = -1 WHERE id = 7; COMMIT`);
    expect(briefly(changes!)).toEqual(['u a 7']);
  });

  it('auto_vacuum: DROP TABLE moves the root of another', async () => {
    await using scene = new CaptureScene(
      `CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE TABLE b (id INTEGER PRIMARY KEY, v); CREATE TABLE c (id INTEGER PRIMARY KEY, v);
      INSERT INTO a ${numbers(50)} SELECT i, zeroblob(300) FROM n; INSERT INTO b SELECT * FROM a; INSERT INTO c SELECT * FROM a`,
      { pragmas: ['page_size = 512', 'auto_vacuum = FULL'] },
    );
    const root = (): unknown => scene.db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'c'").pluck().get();
    const before = root();
    const [changes] = await scene.run('DROP TABLE a');
    expect(root()).not.toBe(before);
    expect(briefly(changes!)).toEqual(['t a', 's a']);
    expect(briefly((await scene.run('UPDATE c SET v = 1 WHERE id = 50'))[0]!)).toEqual(['u c 50']);
  });

  it('auto_vacuum INCREMENTAL moves leaves and overflow pages: no change', async () => {
    await using scene = new CaptureScene(
      `CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE TABLE b (id INTEGER PRIMARY KEY, v);
      INSERT INTO a ${numbers(60)} SELECT i, zeroblob(2000) FROM n; INSERT INTO b SELECT * FROM a; DELETE FROM a`,
      { pragmas: ['page_size = 512', 'auto_vacuum = INCREMENTAL'] },
    );
    for (let round = 0; round < 20; round += 1) {
      scene.db.pragma('incremental_vacuum(10)');
      for (const changes of await scene.take()) expect(changes).toEqual([]);
    }
    expect(briefly((await scene.run("UPDATE b SET v = zeroblob(1999) || x'01' WHERE id = 60"))[0]!)).toEqual(['u b 60']);
  });

  it('VACUUM: no change where rowids stay; a table without key and index is renumbered, and its rows are other rows', async () => {
    await using scene =
      new CaptureScene(`CREATE TABLE a (id TEXT PRIMARY KEY, v); INSERT INTO a ${numbers(500)} SELECT 'k' || i, i FROM n; DELETE FROM a WHERE rowid % 3 = 0;
      CREATE TABLE b (id INTEGER PRIMARY KEY, v); INSERT INTO b SELECT rowid, v FROM a`);
    expect(await scene.run('VACUUM')).toEqual([[]]);
    await scene.run('CREATE TABLE n (v); INSERT INTO n VALUES (1), (2), (3), (4); DELETE FROM n WHERE v = 2');
    expect(briefly((await scene.run('VACUUM'))[0]!)).toEqual(['c n 2', 'u n 3', 'd n 4']);
  });

  it('a database that shrinks to nearly nothing and grows again', async () => {
    await using scene = new CaptureScene(`CREATE TABLE a (id INTEGER PRIMARY KEY, v)`, { pragmas: ['page_size = 512', 'auto_vacuum = FULL'] });
    for (let round = 0; round < 4; round += 1) {
      await scene.run(`INSERT INTO a ${numbers(800)} SELECT i, zeroblob(i % 700) FROM n`);
      const [changes] = await scene.run('DELETE FROM a');
      expect(changes!.length).toBe(800);
    }
  });
});

describe('keys', () => {
  it('two NULL keys in a TEXT PRIMARY KEY are two rows', async () => {
    await using scene = new CaptureScene("CREATE TABLE a (id TEXT PRIMARY KEY, v); INSERT INTO a VALUES (NULL, 1), (NULL, 2), ('x', 3)");
    const [changes] = await scene.run('UPDATE a SET v = v + 10');
    expect(changes!.map((change) => images(change).after)).toEqual([
      [null, 11],
      [null, 12],
      ['x', 13],
    ]);
    const [gone] = await scene.run('DELETE FROM a WHERE rowid = 2');
    expect(images(gone![0]).before).toEqual([null, 12]);
  });

  it('REPLACE over 1 by 1.0 is one row to SQLite: one update, no delete behind it', async () => {
    await using scene = new CaptureScene("CREATE TABLE a (id PRIMARY KEY, v); INSERT INTO a VALUES (1, 'old')");
    const [changes] = await scene.run("REPLACE INTO a VALUES (1.0, 'new')");
    expect(changes!.map((change) => change.op)).toEqual(['u']);
    expect(images(changes![0])).toEqual({ before: [1, 'old'], after: [1, 'new'] });
  });

  it('INSERT OR REPLACE that removes two rows', async () => {
    await using scene = new CaptureScene("CREATE TABLE a (id TEXT PRIMARY KEY, u UNIQUE, v); INSERT INTO a VALUES ('a', 1, 0), ('b', 2, 0)");
    const [changes] = await scene.run("REPLACE INTO a VALUES ('a', 2, 9)");
    expect(briefly(changes!).toSorted()).toEqual(['d a b', 'u a a']);
  });

  it('keys that wander from row to row', async () => {
    await using scene = new CaptureScene(`CREATE TABLE a (id TEXT PRIMARY KEY, v); INSERT INTO a VALUES ('k1', 1), ('k2', 2), ('k3', 3)`);
    const [changes] = await scene.run(
      "BEGIN; UPDATE a SET id = 't' WHERE v = 1; UPDATE a SET id = 'k1' WHERE v = 2; UPDATE a SET id = 'k2' WHERE v = 1; COMMIT",
    );
    expect(briefly(changes!).toSorted()).toEqual(['u a k1', 'u a k2']);
  });

  it('rowids beyond 2^53 and at both ends', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, v)');
    const ids = ['9223372036854775807', '-9223372036854775808', '9007199254740992', '9007199254740993', '-9007199254740993', '-1', '0'];
    const [changes] = await scene.run(`INSERT INTO a VALUES ${ids.map((id) => `(${id}, 1)`).join()}`);
    expect(changes!.map((change) => String((images(change).after as unknown[])[0])).toSorted()).toEqual(ids.toSorted());
    for (const id of ids) expect(briefly((await scene.run(`UPDATE a SET v = 2 WHERE id = ${id}`))[0]!)).toEqual([`u a ${id}`]);
  });
});

describe('schema', () => {
  it('two tables swapped by three renames', async () => {
    await using scene = new CaptureScene(
      "CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE TABLE b (id INTEGER PRIMARY KEY, v); INSERT INTO a VALUES (1, 'a'), (2, 'same'); INSERT INTO b VALUES (1, 'b'), (2, 'same'), (3, 'only b')",
    );
    const [changes] = await scene.run('BEGIN; ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b; COMMIT');
    expect(
      briefly(changes!)
        .filter((line) => !line.startsWith('s '))
        .toSorted(),
    ).toEqual(['c a 3', 'd b 3', 'u a 1', 'u b 1']);
  });

  it('two columns swapped by three renames change every row', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, x, y); INSERT INTO a VALUES (1, 1, 2), (2, 5, 5)');
    const [changes] = await scene.run('BEGIN; ALTER TABLE a RENAME x TO t; ALTER TABLE a RENAME y TO x; ALTER TABLE a RENAME t TO y; COMMIT');
    expect(briefly(changes!)).toEqual(['s a', 'u a 1']);
  });

  it('ADD COLUMN with a DEFAULT changes every row, without one none', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1), (2)');
    expect(briefly((await scene.run('ALTER TABLE a ADD COLUMN plain'))[0]!)).toEqual(['s a']);
    const [changes] = await scene.run('ALTER TABLE a ADD COLUMN v TEXT NOT NULL DEFAULT (CAST(7 AS TEXT))');
    expect(briefly(changes!)).toEqual(['s a', 'u a 1', 'u a 2']);
    expect(images(changes![1])).toEqual({ before: [1, null], after: [1, null, '7'] });
  });

  it('rebuild by position with renumbered rowids gives only the real differences', async () => {
    await using scene = new CaptureScene(
      `CREATE TABLE a (id TEXT PRIMARY KEY, v); INSERT INTO a ${numbers(300)} SELECT 'k' || i, i FROM n; DELETE FROM a WHERE rowid < 100`,
    );
    const [changes] =
      await scene.run(`BEGIN; CREATE TABLE ronin_temp_a (id TEXT PRIMARY KEY, v, w DEFAULT 1); INSERT INTO ronin_temp_a (id, v) SELECT id, v FROM a ORDER BY v DESC;
      DROP TABLE a; ALTER TABLE ronin_temp_a RENAME TO a; UPDATE a SET w = NULL; UPDATE a SET v = -1 WHERE id = 'k200'; COMMIT`);
    expect(briefly(changes!)).toEqual(['s a', 'u a k200']);
  });

  it('names with quotes, dots, spaces and other scripts', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, "o""dd.na me" TEXT); INSERT INTO a VALUES (1, 1)');
    for (const [from, to] of [
      ['a', 'x'],
      ['x', 'we"ird.na me\''],
      ['we"ird.na me\'', '蜂蜜🐝'],
      ['蜂蜜🐝', '[x]'],
    ] as const) {
      const [changes] = await scene.run(`ALTER TABLE "${from.replaceAll('"', '""')}" RENAME TO "${to.replaceAll('"', '""')}"`);
      expect(briefly(changes!)).toEqual([`t ${from}`, `s ${from}`, `s ${to}`, `c ${to} 1`]);
    }
  });

  it('a table renamed to another case of its letters, by way of a third name', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1)');
    const [changes] = await scene.run('BEGIN; ALTER TABLE a RENAME TO t; ALTER TABLE t RENAME TO A; COMMIT');
    expect(briefly(changes!)).toEqual(['t a', 's a', 's A', 'c A 1']);
  });

  it('an empty database gets its first table, in UTF-16 as well', async () => {
    for (const encoding of ['UTF-8', 'UTF-16le', 'UTF-16be']) {
      await using scene = new CaptureScene('', { pragmas: [`encoding = '${encoding}'`] });
      expect(scene.probe.replica.schema.tables).toEqual([]);
      const changes = (await scene.run("CREATE TABLE a (id TEXT PRIMARY KEY, v); INSERT INTO a VALUES ('wägle🐝', 1)")).flat();
      expect(briefly(changes)).toEqual(['s a', 'c a wägle🐝']);
    }
  });

  it('500 columns', async () => {
    const columns = Array.from({ length: 500 }, (_, index) => `c${index}`);
    await using scene = new CaptureScene(`CREATE TABLE a (${columns.join()})`);
    await scene.run(`INSERT INTO a VALUES (${columns.map((_, index) => index).join()})`);
    const [changes] = await scene.run('UPDATE a SET c499 = NULL');
    expect((images(changes![0]).after as unknown[]).slice(-2)).toEqual([498, null]);
    await scene.run('ALTER TABLE a DROP COLUMN c250');
  });

  it('an excluded WITHOUT ROWID table gives its pages to a captured one', async () => {
    await using scene = new CaptureScene(
      `CREATE TABLE wr_0 (k PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE a (id INTEGER PRIMARY KEY, v); INSERT INTO wr_0 ${numbers(300)} SELECT i, zeroblob(300) FROM n`,
      { pragmas: ['page_size = 512'] },
    );
    const [changes] = await scene.run(`BEGIN; DELETE FROM wr_0; INSERT INTO a ${numbers(200)} SELECT i, zeroblob(400) FROM n; COMMIT`);
    expect(changes!.length).toBe(200);
    await scene.run('BEGIN; DELETE FROM a; INSERT INTO wr_0 VALUES (1, zeroblob(50000)); COMMIT');
  });

  it('FTS5 beside a table: its shadow tables are not captured', async () => {
    await using scene = new CaptureScene('CREATE TABLE a (id INTEGER PRIMARY KEY, body); CREATE VIRTUAL TABLE f USING fts5(body)');
    const changes = (await scene.run("BEGIN; INSERT INTO a VALUES (1, 'hive'); INSERT INTO f VALUES ('hive of bees'); COMMIT")).flat();
    expect(briefly(changes)).toEqual(['c a 1']);
    expect(briefly((await scene.run('DROP TABLE f; ALTER TABLE a ADD COLUMN z'))[1]!)).toEqual(['s a']);
  });

  it('parents are created before children and deleted after them, also where REFERENCES spells the name in other letters', async () => {
    await using scene = new CaptureScene(
      'CREATE TABLE child (id INTEGER PRIMARY KEY, p REFERENCES PARENT(id)); CREATE TABLE parent (id INTEGER PRIMARY KEY)',
    );
    expect(briefly((await scene.run('BEGIN; INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1); COMMIT'))[0]!)).toEqual([
      'c parent 1',
      'c child 1',
    ]);
    expect(briefly((await scene.run('BEGIN; DELETE FROM child; DELETE FROM parent; COMMIT'))[0]!)).toEqual(['d child 1', 'd parent 1']);
  });
});
