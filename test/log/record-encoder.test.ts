import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { encodeRecord } from '../helpers/record-encoder.ts';
import { randomValue } from '../helpers/logged-database.ts';
import { Random } from '../helpers/random.ts';

test('encodes records as SQLite does', () => {
  const random = new Random(7);
  for (let round = 0; round < 300; round += 1) {
    const values = Array.from({ length: 1 + random.int(6) }, () => randomValue(random)).map((value) =>
      typeof value === 'string' ? value.slice(0, 200) : value,
    );
    const db = new Database(':memory:');
    db.exec(`CREATE TABLE t (${values.map((_, index) => `c${index}`).join()})`);
    db.prepare(`INSERT INTO t VALUES (${values.map(() => '?').join()})`).run(...values);
    const file = db.serialize();
    db.close();
    // SQLite stores a REAL that is a whole number as an integer only in REAL columns; these have no affinity.
    expect(file.includes(encodeRecord(values))).toBe(true);
  }
});
