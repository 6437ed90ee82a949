/** The three shapes of DESIGN "Numbers": what a writer does, the same in every benchmark. 4096-byte pages, 7 columns. */
import type Database from 'better-sqlite3';

export type Shape = 'inserts-1000' | 'inserts-1' | 'updates-100';
export const SHAPES: readonly Shape[] = ['inserts-1000', 'inserts-1', 'updates-100'];

export const SHAPE_TITLES: Record<Shape, string> = {
  'inserts-1000': 'inserts, 1000 a transaction',
  'inserts-1': 'inserts, 1 a transaction',
  'updates-100': 'random updates, 100 a transaction',
};

/** Rows that the table of `updates-100` holds before it starts. */
const UPDATE_ROWS = 100_000;

export const createTable = (db: Database.Database): void => {
  db.exec('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT, email TEXT, age INTEGER, score REAL, note TEXT, at TEXT)');
};

/** Fills what the shape needs to be there. */
export const prepareShape = (db: Database.Database, shape: Shape): void => {
  createTable(db);
  if (shape !== 'updates-100') return;
  const insert = db.prepare('INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)');
  db.transaction(() => {
    for (let id = 1; id <= UPDATE_ROWS; id += 1)
      insert.run(id, `name ${id}`, `user${id}@example.com`, id % 90, id / 7, 'a note of some length', '2026-01-01T00:00:00.000Z');
  })();
};

/** A function that runs one transaction and tells the rows it touched. */
export const openShape = (db: Database.Database, shape: Shape): (() => number) => {
  const insert = db.prepare('INSERT INTO t (name, email, age, score, note, at) VALUES (?, ?, ?, ?, ?, ?)');
  const update = db.prepare('UPDATE t SET age = ?, score = ? WHERE id = ?');
  let n = 0;
  const insertOne = (): void => {
    n += 1;
    insert.run(`name ${n}`, `user${n}@example.com`, n % 90, n / 7, 'a note of some length', '2026-01-01T00:00:00.000Z');
  };
  let seed = 12345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed % below;
  };
  switch (shape) {
    case 'inserts-1000': {
      const many = db.transaction(() => {
        for (let index = 0; index < 1000; index += 1) insertOne();
      });
      return () => (many(), 1000);
    }
    case 'inserts-1':
      return () => (insertOne(), 1);
    case 'updates-100': {
      const many = db.transaction(() => {
        for (let index = 0; index < 100; index += 1) {
          n += 1;
          update.run(n % 1000, n / 3, 1 + random(UPDATE_ROWS));
        }
      });
      return () => (many(), 100);
    }
  }
};
