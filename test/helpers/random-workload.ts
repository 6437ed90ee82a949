/**
 * Random schemas and operations, run on a real SQLite connection. Only what SQLite accepts counts: a
 * statement that it refuses (a unique key, a foreign key) is part of the workload too.
 */
import type Database from 'better-sqlite3';
import { Random } from './random.ts';

const TYPES = ['TEXT', 'INTEGER', 'REAL', 'BLOB', 'NUMERIC', '', 'BOOLEAN', 'DATETIME', 'VARCHAR(20)', 'INT'] as const;
const WORDS = ['hive', 'wägle', '蜂蜜', '🐝', "quo'te", 'x'.repeat(40), ''] as const;
const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export class RandomWorkload {
  readonly random: Random;
  readonly #db: Database.Database;
  #names = 0;

  constructor(db: Database.Database, seed: number) {
    this.#db = db;
    this.random = new Random(seed);
  }

  /** Some tables of different kinds. */
  createSchema(): void {
    const count = 1 + this.random.int(4);
    for (let index = 0; index < count; index += 1) this.#createTable(`t${index}`);
    if (this.random.chance(0.3)) this.#try('CREATE TABLE wr_0 (k PRIMARY KEY, v) WITHOUT ROWID');
  }

  /** One transaction; it may roll back, as a whole or to a savepoint. Returns whether it committed. */
  transaction(): boolean {
    const { random } = this;
    if (random.chance(0.01)) {
      this.#try('VACUUM');
      return true;
    }
    this.#db.exec('BEGIN');
    const count = random.chance(0.2) ? 1 + random.int(12) : 1 + random.int(2);
    for (let index = 0; index < count; index += 1) {
      if (random.chance(0.08)) this.#savepoint();
      else this.#operation();
    }
    const rollback = random.chance(0.08);
    this.#db.exec(rollback ? 'ROLLBACK' : 'COMMIT');
    return !rollback;
  }

  tables(): string[] {
    return this.#db
      .prepare<[], string>(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'wr\\_%' ESCAPE '\\' ORDER BY name",
      )
      .pluck()
      .all();
  }

  #savepoint(): void {
    this.#db.exec('SAVEPOINT s');
    this.#operation();
    this.#operation();
    this.#db.exec(this.random.chance(0.6) ? 'ROLLBACK TO s; RELEASE s' : 'RELEASE s');
  }

  #operation(): void {
    const { random } = this;
    const tables = this.tables();
    if (tables.length === 0 || random.chance(0.01)) {
      this.#createTable(this.#name('t'));
      return;
    }
    const table = random.pick(tables);
    if (random.chance(0.03)) {
      this.#excluded();
      return;
    }
    if (random.chance(0.04)) {
      this.#bulk(table);
      return;
    }
    const number = this.#number(table);
    const roll = random.int(100);
    if (roll < 34) this.#insert(table, 'INSERT', 1 + random.int(3));
    else if (roll < 40) this.#insert(table, 'INSERT', 30 + random.int(120));
    else if (roll < 46) this.#insert(table, 'REPLACE', 1 + random.int(4));
    else if (roll < 66) this.#update(table);
    else if (roll < 70) this.#updateInPlace(table);
    else if (roll < 74) this.#changeKeys(table);
    else if (roll < 84)
      this.#try(
        `DELETE FROM ${quoted(table)} WHERE ${number} IN (SELECT ${number} FROM ${quoted(table)} ORDER BY (${number} * ${1 + random.int(1000)}) % 997 LIMIT ${1 + random.int(5)})`,
      );
    else if (roll < 86) this.#try(`DELETE FROM ${quoted(table)} WHERE ${number} % 3 = ${random.int(3)}`);
    else if (roll < 87) this.#try(`DELETE FROM ${quoted(table)}`);
    else this.#alter(table);
  }

  /** A table that is not captured takes and gives pages. */
  #excluded(): void {
    const { random } = this;
    if (random.chance(0.7)) this.#try('REPLACE INTO wr_0 VALUES (?, ?)', this.#key() ?? 0, this.#value());
    else this.#try('DELETE FROM wr_0 WHERE k > ?', this.#key());
  }

  /** Hundreds of rows at once, or a range of them gone: interior pages split, merge and leave the tree. */
  #bulk(table: string): void {
    const { random } = this;
    if (random.chance(0.3)) {
      this.#try(`DELETE FROM ${quoted(table)} WHERE ${this.#number(table)} BETWEEN ? AND ?`, random.int(300), 300 + random.int(1500));
      return;
    }
    const columns = this.#columns(table).filter((column) => column.type.toUpperCase() !== 'INTEGER' || column.pk !== 1);
    if (columns.length === 0) return;
    const from = random.int(3000);
    const values = columns.map((column) =>
      column.pk > 0
        ? "'k' || i"
        : random.pick(['i', "'row ' || i", 'zeroblob(i % 40)', 'NULL', `zeroblob(CASE WHEN i % 97 = 0 THEN ${random.int(3000)} ELSE 3 END)`]),
    );
    this.#try(
      `INSERT OR IGNORE INTO ${quoted(table)} (${columns.map((column) => quoted(column.name)).join()})
       WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${from + 100 + random.int(500)}) SELECT ${values.join()} FROM n`,
    );
  }

  /** A number that tells rows apart, more or less: the rowid, or one made of the key where there is none. */
  #number(table: string): string {
    const isKeyed =
      this.#db.prepare<[string], number>("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?").pluck().get(table) === 1;
    const key = isKeyed ? this.#columns(table).find((column) => column.pk === 1) : undefined;
    if (key === undefined) return 'rowid';
    const name = quoted(key.name);
    return `(unicode(hex(${name})) * 31 + length(${name}) * 7 + coalesce(unicode(substr(${name}, -1)), 3) * 11 + coalesce(unicode(substr(${name}, -2)), 5))`;
  }

  #columns(table: string): { name: string; pk: number; type: string }[] {
    return this.#db.pragma(`table_xinfo(${quoted(table)})`) as { name: string; pk: number; type: string }[];
  }

  #insert(table: string, verb: 'INSERT' | 'REPLACE', rows: number): void {
    const columns = this.#columns(table).filter((column) => !(column.type.toUpperCase() === 'INTEGER' && column.pk === 1) || this.random.chance(0.3));
    if (columns.length === 0) {
      this.#try(`${verb} INTO ${quoted(table)} DEFAULT VALUES`);
      return;
    }
    const sql = `${verb} ${verb === 'INSERT' ? 'OR IGNORE' : ''} INTO ${quoted(table)} (${columns.map((column) => quoted(column.name)).join()}) VALUES (${columns.map(() => '?').join()})`;
    for (let row = 0; row < rows; row += 1)
      this.#try(
        sql,
        ...columns.map((column) => (column.pk === 0 ? this.#value() : column.type.toUpperCase() === 'INTEGER' ? this.#rowid() : this.#key())),
      );
  }

  #update(table: string): void {
    const column = this.random.pick(this.#columns(table).filter((entry) => entry.pk === 0));
    if (column === undefined) return;
    const number = this.#number(table);
    const where = this.random.chance(0.2)
      ? `${number} % 4 = ${this.random.int(4)}`
      : `${number} = (SELECT ${number} FROM ${quoted(table)} ORDER BY (${number} * ${1 + this.random.int(1000)}) % 1009 LIMIT 1)`;
    this.#try(`UPDATE OR IGNORE ${quoted(table)} SET ${quoted(column.name)} = ? WHERE ${where}`, this.#value());
  }

  /** Same size, other bytes: in an overflowing row only overflow pages change. */
  #updateInPlace(table: string): void {
    const column = this.random.pick(this.#columns(table).filter((entry) => entry.pk === 0));
    if (column === undefined) return;
    const name = quoted(column.name);
    this.#try(
      `UPDATE ${quoted(table)} SET ${name} = CAST(substr(${name}, 1, length(${name}) - 2) || x'4142' AS BLOB) WHERE typeof(${name}) = 'blob' AND length(${name}) > 300`,
    );
  }

  #changeKeys(table: string): void {
    const key = this.#columns(table).find((column) => column.pk === 1);
    if (key === undefined) {
      this.#try(`UPDATE OR IGNORE ${quoted(table)} SET rowid = rowid + ${this.random.int(50)} WHERE rowid % 5 = ${this.random.int(5)}`);
    } else if (this.random.chance(0.5)) {
      this.#try(
        `UPDATE OR IGNORE ${quoted(table)} SET ${quoted(key.name)} = ? WHERE ${this.#number(table)} % 7 = ${this.random.int(7)}`,
        this.#key(),
      );
    } else if (this.#number(table) !== 'rowid') {
      // Another spelling: the same key under NOCASE.
      this.#try(
        `UPDATE OR REPLACE ${quoted(table)} SET ${quoted(key.name)} = upper(${quoted(key.name)}) WHERE typeof(${quoted(key.name)}) = 'text' AND ${this.#number(table)} % 3 = 1`,
      );
    } else {
      // Keys wander from row to row.
      this.#try(
        `UPDATE OR REPLACE ${quoted(table)} SET ${quoted(key.name)} = (SELECT b.${quoted(key.name)} FROM ${quoted(table)} b WHERE b.rowid > ${quoted(table)}.rowid ORDER BY b.rowid LIMIT 1) WHERE rowid % 6 = ${this.random.int(6)}`,
      );
    }
  }

  #alter(table: string): unknown {
    const { random } = this;
    const columns = this.#columns(table);
    const plain = columns.filter((column) => column.pk === 0);
    const other = random.pick(this.tables());
    switch (random.int(12)) {
      case 0:
      case 1:
        return this.#try(
          `ALTER TABLE ${quoted(table)} ADD COLUMN ${quoted(this.#name('c'))} ${random.pick(TYPES)} ${random.chance(0.5) ? `DEFAULT ${random.pick(["'dflt'", '7', '1.5', "x'0102'", 'NULL', '-9223372036854775807', "''"])}` : ''}`,
        );
      case 2:
        return plain.length === 0 ? undefined : this.#try(`ALTER TABLE ${quoted(table)} DROP COLUMN ${quoted(random.pick(plain).name)}`);
      case 3:
        return this.#try(`ALTER TABLE ${quoted(table)} RENAME COLUMN ${quoted(random.pick(columns).name)} TO ${quoted(this.#name('r'))}`);
      case 4: {
        if (plain.length < 2) return undefined;
        const [a, b] = [plain[0]!.name, plain[1]!.name];
        this.#try(`ALTER TABLE ${quoted(table)} RENAME COLUMN ${quoted(a)} TO swap_tmp`);
        this.#try(`ALTER TABLE ${quoted(table)} RENAME COLUMN ${quoted(b)} TO ${quoted(a)}`);
        return this.#try(`ALTER TABLE ${quoted(table)} RENAME COLUMN swap_tmp TO ${quoted(b)}`);
      }
      case 5:
        return this.#try(`ALTER TABLE ${quoted(table)} RENAME TO ${quoted(this.#name('n'))}`);
      case 6: {
        if (other === table) return undefined;
        this.#try(`ALTER TABLE ${quoted(table)} RENAME TO swap_t`);
        this.#try(`ALTER TABLE ${quoted(other)} RENAME TO ${quoted(table)}`);
        return this.#try(`ALTER TABLE swap_t RENAME TO ${quoted(other)}`);
      }
      case 7:
        return this.#try(`DROP TABLE ${quoted(table)}`);
      case 8:
      case 9:
        return this.#rebuild(table);
      case 10:
        return columns.length === 0
          ? undefined
          : this.#try(`CREATE INDEX ${quoted(this.#name('i'))} ON ${quoted(table)} (${quoted(random.pick(columns).name)})`);
      default: {
        const index = this.#db.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL LIMIT 1").pluck().get();
        return index === undefined ? undefined : this.#try(`DROP INDEX ${quoted(index)}`);
      }
    }
  }

  /** As Blade migrates: a new table, the rows by position, drop, rename. Rowids of tables without a rowid key are renumbered. */
  #rebuild(table: string): void {
    const sql = this.#db.prepare<[string], string>("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?").pluck().get(table);
    if (sql === undefined) return;
    const at = sql.indexOf('(');
    if (!this.#try(`CREATE TABLE "ronin_temp" ${sql.slice(at)}`)) return;
    this.#try(`INSERT OR IGNORE INTO "ronin_temp" SELECT * FROM ${quoted(table)}`);
    this.#try(`DROP TABLE ${quoted(table)}`);
    this.#try(`ALTER TABLE "ronin_temp" RENAME TO ${quoted(table)}`);
  }

  #createTable(name: string): void {
    const { random } = this;
    const plain = Array.from(
      { length: 1 + random.int(6) },
      (_, index) => `${quoted(random.chance(0.1) ? `odd.${index} "col"` : `c${index}`)} ${random.pick(TYPES)}`,
    );
    const kind = random.int(9);
    const columns =
      kind === 0
        ? ['id INTEGER PRIMARY KEY', ...plain]
        : kind === 1
          ? ['id INTEGER PRIMARY KEY AUTOINCREMENT', ...plain]
          : kind === 2
            ? ['id TEXT PRIMARY KEY', ...plain]
            : kind === 3
              ? ['a', 'b TEXT', ...plain, 'PRIMARY KEY (b, a)']
              : kind === 4
                ? ['id INT PRIMARY KEY', ...plain, 'g AS (1)', 's TEXT AS (id) STORED'].slice(0, 1 + plain.length)
                : kind === 5
                  ? plain
                  : this.#keyed(kind, plain);
    const options = [...(kind > 5 ? ['WITHOUT ROWID'] : []), ...(kind === 8 && random.chance(0.3) ? ['STRICT'] : [])];
    this.#try(`CREATE TABLE ${quoted(name)} (${columns.join(', ')}) ${options.join()}`);
  }

  /** Columns of a WITHOUT ROWID table. */
  #keyed(kind: number, plain: readonly string[]): string[] {
    const { random } = this;
    const order = (): string => `${random.pick(['', '', 'COLLATE NOCASE', 'COLLATE RTRIM'])} ${random.pick(['', 'DESC'])}`;
    if (kind === 6) return [...plain, `k ${random.pick(['TEXT', '', 'INTEGER', 'REAL', 'BLOB'])}`, `PRIMARY KEY (k ${order()})`];
    if (kind === 7)
      return ['a', ...plain, 'b TEXT COLLATE NOCASE', 'g AS (a)', 's AS (b) STORED', `PRIMARY KEY (b, a ${order()}, b, b COLLATE BINARY)`];
    return ['a TEXT', 'z TEXT', ...plain.map((column) => column.replace(/ \S*$/, ' ANY')), `PRIMARY KEY (z ${order()}, a ${order()})`];
  }

  #name(prefix: string): string {
    this.#names += 1;
    return `${prefix}_${this.#names}`;
  }

  #rowid(): string | number | bigint | null | Buffer {
    const { random } = this;
    switch (random.int(6)) {
      case 0:
        // Not the greatest of all: SQLite would then pick rowids by chance, and the seed would not tell the run any more.
        return 9223372036854770000n + BigInt(random.int(1000));
      case 1:
        return -9223372036854775808n + BigInt(random.int(1000));
      case 2:
        return 9007199254740990n + BigInt(random.int(5));
      case 3:
        return -random.int(1000);
      default:
        return this.#key();
    }
  }

  #key(): string | number | bigint | null | Buffer {
    const roll = this.random.int(20);
    if (roll === 0) return null;
    if (roll === 1) return Buffer.from([this.random.int(256)]);
    if (roll < 8) return this.random.int(400);
    return `${this.random.pick(['k', 'k', 'k', 'K'])}${this.random.int(400)}${this.random.pick(['', '', '', '', ' '])}`;
  }

  #value(): string | number | bigint | null | Buffer {
    const { random } = this;
    switch (random.int(12)) {
      case 0:
        return null;
      case 1:
        return random.int(100);
      case 2:
        return BigInt(random.pick(['9223372036854775807', '-9223372036854775808', '9007199254740993', '-1', '255', '65536']));
      case 3:
        return random.pick([1.5, -0.0, 1e300, Infinity, 0.1, 3]);
      case 4:
        return Buffer.alloc(random.int(30), random.int(256));
      case 5:
        return Buffer.alloc(random.int(9000), random.int(256));
      case 6:
        return random.pick(WORDS).repeat(random.int(200));
      default:
        return `${random.pick(WORDS)}${random.int(1000)}`;
    }
  }

  #try(sql: string, ...values: unknown[]): boolean {
    try {
      const statement = this.#db.prepare(sql);
      if (statement.reader) statement.all(...values);
      else statement.run(...values);
      return true;
    } catch (error) {
      if (error instanceof Error && error.name === 'SqliteError') return false;
      throw error;
    }
  }
}
