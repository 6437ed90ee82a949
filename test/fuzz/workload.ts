/**
 * Random schemas and operations on one connection. What SQLite refuses (a unique key, a foreign key, a syntax that is too new) is part
 * of the workload. Tells which tables it touched.
 */
import type { Random } from '../helpers/random.ts';
import { type Connection, isSqliteError, type Parameter } from './connection.ts';
import type { RoundPlan } from './plan.ts';
import { type ColumnInfo, quoted, type TableInfo, type WriterSchema } from './writer-schema.ts';

const TYPES = ['TEXT', 'INTEGER', 'REAL', 'BLOB', 'NUMERIC', '', 'BOOLEAN', 'DATETIME', 'VARCHAR(20)', 'INT', 'DOUBLE', 'DECIMAL(10,2)'] as const;
const STRICT_TYPES = ['TEXT', 'INTEGER', 'INT', 'REAL', 'BLOB', 'ANY'] as const;
const WORDS = ['hive', 'wägle', '蜂蜜', '🐝', "quo'te", 'x'.repeat(40), '', 'nul\0inside', 'HIVE', '1', '1.0', '1e3'] as const;
const ODD_NAMES = [
  'order',
  'quo"te',
  "apo'strophe",
  'sp ace',
  'wägle',
  '🐝',
  'semi;colon',
  'a.b',
  '[x]',
  '`t`',
  'line\nbreak',
  '%s',
  '__proto__',
  'null',
];
const DEFAULTS = [
  "'dflt'",
  '7',
  '1.5',
  "x'0102'",
  'NULL',
  '-9223372036854775807',
  "''",
  '(1 + 2)',
  "('a' || 'b')",
  'TRUE',
  '-0.0',
  '9e999',
  "'蜂'",
  '0x10',
];
/** A transaction with this many bytes of frames is not kept in memory by capture, and its changes are put aside. */
const HUGE_BYTES = 9_000_000;

export class Workload {
  readonly random: Random;
  /** Names of tables that the transaction's statements named. */
  readonly touched = new Set<string>();
  readonly statements: string[] = [];
  readonly #db: Connection;
  readonly #schema: WriterSchema;
  readonly #plan: RoundPlan;
  readonly #prefix: string;
  #names = 0;
  /** The operation began inside a transaction. A conflict can have rolled it back since: what follows would be one of its own. */
  #isInside = false;
  /** The table that has a row of `HUGE_BYTES`; it goes soon, since every scan reads it. */
  #hugeIn: string | null = null;

  constructor(options: { db: Connection; schema: WriterSchema; plan: RoundPlan; writer: number; random: Random }) {
    this.#db = options.db;
    this.#schema = options.schema;
    this.#plan = options.plan;
    this.#prefix = `w${options.writer}`;
    this.random = options.random;
  }

  createSchema(): void {
    const { random } = this;
    for (let index = 0; index < this.#plan.tables; index += 1) this.#createTable();
    if (this.#plan.wideColumns > 0) this.#createWide(this.#plan.wideColumns);
    if (random.chance(0.5)) this.#createRelated();
    if (random.chance(0.4)) this.try('CREATE VIRTUAL TABLE fuzz_fts USING fts5(body, title)');
    if (random.chance(0.3)) this.try('CREATE VIRTUAL TABLE fuzz_rtree USING rtree(id, x0, x1)');
    if (random.chance(0.4)) this.try('CREATE TABLE excluded_0 (k PRIMARY KEY, v)');
    if (random.chance(0.2)) this.try('CREATE VIEW fuzz_view AS SELECT * FROM fuzz_order');
    if (random.chance(0.2)) this.#createTrigger();
    for (let index = 0; index < 20; index += 1) this.operation();
  }

  operation(): void {
    this.#isInside = this.#db.inTransaction;
    this.#operation();
    this.#isInside = false;
  }

  #operation(): void {
    const { random } = this;
    const tables = [...this.#schema.tables.values()].filter((table) => table.name !== 'fuzz_order');
    if (tables.length === 0 || (tables.length < 8 && random.chance(0.008))) return this.#createTable();
    if (random.chance(0.05)) return this.#beside();
    const table = tables.find((each) => each.name === this.#hugeIn && random.chance(0.6)) ?? random.pick(tables);
    this.touched.add(table.name);
    if (table.name === this.#hugeIn) return this.#deleteHuge(table);
    if (random.chance(0.001)) return this.#insertHuge(table);
    const roll = random.int(1000);
    if (roll < 330)
      this.#insert(table, random.pick(['INSERT', 'INSERT', 'INSERT OR IGNORE', 'INSERT OR FAIL', 'INSERT OR ROLLBACK']), 1 + random.int(3));
    else if (roll < 350) this.#bulk(table);
    else if (roll < 400) this.#insert(table, 'REPLACE', 1 + random.int(4));
    else if (roll < 450) this.#upsert(table);
    else if (roll < 640) this.#update(table);
    else if (roll < 660) this.#updateInPlace(table);
    else if (roll < 675) this.#oddText(table);
    else if (roll < 705) this.#changeKeys(table);
    else if (roll < 800) this.#deleteSome(table);
    else if (roll < 830) this.try(`DELETE FROM ${quoted(table.name)} WHERE ${this.#position(table)} % 3 = ${random.int(3)}`);
    else if (roll < 840) this.try(`DELETE FROM ${quoted(table.name)}`);
    else if (roll < 860) this.#copy(table, random.pick(tables));
    else if (roll < 870) this.#rebirth(table);
    else if (roll < 960) this.#trim(table);
    else this.#alter(table, tables);
  }

  /** Runs a statement that SQLite may refuse. */
  try(sql: string, ...values: readonly Parameter[]): boolean {
    if (this.#isInside && !this.#db.inTransaction) return false;
    try {
      this.#db.run(sql, ...values);
      this.#note(sql, values, '');
      return true;
    } catch (error) {
      if (!isSqliteError(error)) throw error;
      this.#note(sql, values, ` -- ${error.message}`);
      return false;
    }
  }

  #note(sql: string, values: readonly Parameter[], outcome: string): void {
    if (this.statements.length >= 60) return;
    const shown = values.map((value) =>
      Buffer.isBuffer(value) ? `x'${value.toString('hex', 0, 40)}'` : typeof value === 'bigint' ? `${value}n` : JSON.stringify(value),
    );
    this.statements.push(`${sql}${shown.length > 0 ? ` -- ? ${shown.map((text) => text.slice(0, 80)).join(', ')}` : ''}${outcome}`);
  }

  /** A number that tells rows apart more or less. */
  #position(table: TableInfo): string {
    return (
      table.rowid ?? `(abs(length(CAST(${quoted(table.columns[0]!.name)} AS BLOB))) + unicode(substr(hex(${quoted(table.columns[0]!.name)}), -1)))`
    );
  }

  /** Tables that are not captured take and give pages. */
  #beside(): void {
    const { random } = this;
    switch (random.int(8)) {
      case 7:
        this.try(`PRAGMA user_version = ${random.int(1000)}`);
        break;
      case 0:
        this.try('INSERT INTO fuzz_fts VALUES (?, ?)', `${random.pick(WORDS)} ${random.int(100)}`, random.pick(WORDS));
        break;
      case 1:
        this.try('DELETE FROM fuzz_fts WHERE rowid % 5 = ?', random.int(5));
        break;
      case 2:
        this.try('REPLACE INTO fuzz_rtree VALUES (?, ?, ?)', random.int(100), random.int(10), 10 + random.int(10));
        break;
      case 3:
        this.try('DELETE FROM excluded_0 WHERE k > ?', random.int(100));
        break;
      case 4:
        this.try(random.pick(['ANALYZE', 'REINDEX']));
        break;
      default:
        this.try('REPLACE INTO excluded_0 VALUES (?, ?)', random.int(100), this.#value('', false));
    }
  }

  #writable(table: TableInfo): ColumnInfo[] {
    return table.columns.filter((column) => !column.generated);
  }

  /** Columns that an INSERT names: without the INTEGER PRIMARY KEY mostly, and without some others sometimes. */
  #insertColumns(table: TableInfo): ColumnInfo[] {
    const { random } = this;
    const leaveOut = random.chance(0.15);
    return this.#writable(table).filter(
      (column) =>
        !(column.pk === 1 && isRowidType(column.type) && table.key.length === 0 && random.chance(0.7)) &&
        !(leaveOut && column.pk === 0 && random.chance(0.3)),
    );
  }

  #insert(table: TableInfo, verb: string, rows: number): void {
    const columns = this.#insertColumns(table);
    if (columns.length === 0) return void this.try(`${verb} INTO ${quoted(table.name)} DEFAULT VALUES`);
    const sql = `${verb} INTO ${quoted(table.name)} (${names(columns)}) VALUES (${columns.map(() => '?').join()})`;
    for (let row = 0; row < rows; row += 1) this.try(sql, ...columns.map((column) => this.#columnValue(table, column)));
  }

  #upsert(table: TableInfo): void {
    const { random } = this;
    const columns = this.#insertColumns(table);
    const target = random.pick(columns.filter((column) => column.pk === 0));
    if (columns.length === 0 || target === undefined) return;
    const pk = table.columns.filter((column) => column.pk > 0);
    const action = random.chance(0.2)
      ? 'NOTHING'
      : `UPDATE SET ${quoted(target.name)} = ${random.chance(0.5) ? `excluded.${quoted(target.name)}` : '?'}`;
    const conflict = pk.length > 0 && random.chance(0.7) ? `(${names(pk)})` : '';
    const values = columns.map((column) => this.#columnValue(table, column));
    if (action.endsWith('?')) values.push(this.#columnValue(table, target));
    this.try(
      `INSERT INTO ${quoted(table.name)} (${names(columns)}) VALUES (${columns.map(() => '?').join()}) ON CONFLICT ${conflict} DO ${action}`,
      ...values,
    );
  }

  /** Many rows at once: pages split, the cache spills. Or a range of them gone: interior pages merge and leave the tree. */
  #bulk(table: TableInfo): void {
    const { random } = this;
    if (random.chance(0.35)) return void this.try(`DELETE FROM ${quoted(table.name)} WHERE ${this.#position(table)} % 8 <> 1`);
    const columns = this.#writable(table).filter((column) => !(column.pk === 1 && isRowidType(column.type)));
    if (columns.length === 0) return;
    const from = random.int(3000);
    const values = columns.map((column) => {
      if (column.pk > 0) return table.strict && /INT|REAL/.test(column.type) ? 'i' : "'k' || i";
      if (table.strict) return column.type === 'TEXT' ? "'row ' || i" : column.type === 'BLOB' ? 'zeroblob(i % 40)' : 'i';
      return random.pick([
        'i',
        "'row ' || i",
        'zeroblob(i % 40)',
        'NULL',
        'i * 0.5',
        `zeroblob(CASE WHEN i % 37 = 0 THEN ${random.int(3000)} ELSE 3 END)`,
      ]);
    });
    this.try(
      `INSERT OR IGNORE INTO ${quoted(table.name)} (${names(columns)})
       WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${from + 20 + random.int(180)}) SELECT ${values.join()} FROM n`,
    );
  }

  #update(table: TableInfo): void {
    const { random } = this;
    const column = random.pick(this.#writable(table).filter((entry) => entry.pk === 0));
    if (column === undefined) return;
    const position = this.#position(table);
    const where = random.chance(0.25)
      ? `${position} % 4 = ${random.int(4)}`
      : table.rowid === null
        ? `${position} % 11 = ${random.int(11)}`
        : `${table.rowid} = (SELECT ${table.rowid} FROM ${quoted(table.name)} ORDER BY (${table.rowid} * ${1 + random.int(1000)}) % 1009 LIMIT 1)`;
    const verb = random.pick(['UPDATE OR IGNORE', 'UPDATE OR IGNORE', 'UPDATE', 'UPDATE OR REPLACE', 'UPDATE OR FAIL']);
    const other = random.pick(table.columns);
    // To its own value sometimes: the row is written, and nothing changes.
    if (random.chance(0.1)) this.try(`${verb} ${quoted(table.name)} SET ${quoted(column.name)} = ${quoted(other.name)} WHERE ${where}`);
    else this.try(`${verb} ${quoted(table.name)} SET ${quoted(column.name)} = ? WHERE ${where}`, this.#columnValue(table, column));
  }

  /** Bytes that are no text in any encoding, as text; in keys too. */
  #oddText(table: TableInfo): void {
    const { random } = this;
    const column = random.pick(this.#writable(table));
    if (column === undefined) return;
    const bytes = random.pick(['ff', 'fe', 'c328', 'e28228', '61ff62', '00d8', 'd800', '41', 'efbfbd', 'fdff', '00', '6100', 'f09f']);
    const repeat = random.chance(0.2) ? 40 : 1;
    this.try(
      `UPDATE OR IGNORE ${quoted(table.name)} SET ${quoted(column.name)} = CAST(? AS TEXT) WHERE ${this.#position(table)} % 9 = ${random.int(9)}`,
      Buffer.from(bytes.repeat(repeat), 'hex'),
    );
  }

  /** Same size, other bytes: in an overflowing row only overflow pages change. */
  #updateInPlace(table: TableInfo): void {
    const column = this.random.pick(this.#writable(table).filter((entry) => entry.pk === 0));
    if (column === undefined) return;
    const name = quoted(column.name);
    const cut = this.random.int(3) * 100;
    this.try(
      `UPDATE OR IGNORE ${quoted(table.name)} SET ${name} = CAST(substr(${name}, 1, length(${name}) - 2 - ${cut}) || x'${this.random.pick(['4142', '4344'])}' || substr(${name}, length(${name}) - ${cut - 1}) AS BLOB)
       WHERE typeof(${name}) = 'blob' AND length(${name}) > 300`,
    );
  }

  #changeKeys(table: TableInfo): void {
    const { random } = this;
    const key = table.columns.find((column) => column.pk > 0 && !column.generated);
    const { rowid } = table;
    if (key === undefined) {
      if (rowid !== null)
        this.try(`UPDATE OR IGNORE ${quoted(table.name)} SET ${rowid} = ${rowid} + ${random.int(50)} WHERE ${rowid} % 5 = ${random.int(5)}`);
      return;
    }
    const name = quoted(key.name);
    const where = `${this.#position(table)} % 7 = ${random.int(7)}`;
    if (random.chance(0.5) || rowid === null) {
      this.try(`UPDATE OR ${random.pick(['IGNORE', 'REPLACE'])} ${quoted(table.name)} SET ${name} = ? WHERE ${where}`, this.#columnValue(table, key));
    } else {
      // Keys wander from row to row.
      this.try(
        `UPDATE OR REPLACE ${quoted(table.name)} SET ${name} = (SELECT b.${name} FROM ${quoted(table.name)} b WHERE b.${rowid} > ${quoted(table.name)}.${rowid} ORDER BY b.${rowid} LIMIT 1) WHERE ${where}`,
      );
    }
  }

  #deleteSome(table: TableInfo): void {
    const { random } = this;
    if (table.rowid === null) return void this.try(`DELETE FROM ${quoted(table.name)} WHERE ${this.#position(table)} % 13 = ${random.int(13)}`);
    this.try(
      `DELETE FROM ${quoted(table.name)} WHERE ${table.rowid} IN (SELECT ${table.rowid} FROM ${quoted(table.name)} ORDER BY (${table.rowid} * ${1 + random.int(1000)}) % 997 LIMIT ${1 + random.int(5)})`,
    );
  }

  #copy(from: TableInfo, into: TableInfo): void {
    const columns = this.#writable(into).filter((column) => !(column.pk === 1 && isRowidType(column.type)));
    if (columns.length === 0) return;
    this.touched.add(into.name);
    const values = columns.map(() => quoted(this.random.pick(from.columns).name));
    this.try(`INSERT OR IGNORE INTO ${quoted(into.name)} (${names(columns)}) SELECT ${values.join()} FROM ${quoted(from.name)} LIMIT 40`);
  }

  /** Rows go and come back in one transaction, the same or nearly. */
  #rebirth(table: TableInfo): void {
    const columns = names(this.#writable(table));
    if (columns === '') return;
    this.try('DROP TABLE IF EXISTS temp.reborn');
    this.try(`CREATE TEMP TABLE reborn AS SELECT ${columns} FROM ${quoted(table.name)}`);
    this.try(`DELETE FROM ${quoted(table.name)}`);
    this.try(
      `INSERT OR IGNORE INTO ${quoted(table.name)} (${columns}) SELECT ${columns} FROM temp.reborn ORDER BY ${this.random.pick(['1', '1 DESC'])}`,
    );
    this.try('DROP TABLE IF EXISTS temp.reborn');
  }

  #insertHuge(table: TableInfo): void {
    const column = this.random.pick(this.#writable(table).filter((each) => each.pk === 0 && (!table.strict || /BLOB|ANY/.test(each.type))));
    if (column === undefined) return;
    const bytes = Buffer.alloc(HUGE_BYTES, `${this.random.int(1e9)} huge `);
    if (
      this.try(
        `UPDATE ${quoted(table.name)} SET ${quoted(column.name)} = ? WHERE ${this.#position(table)} = (SELECT max(${this.#position(table)}) FROM ${quoted(table.name)})`,
        bytes,
      )
    )
      this.#hugeIn = table.name;
  }

  #deleteHuge(table: TableInfo): void {
    this.#hugeIn = null;
    const isHuge = this.#writable(table).map((column) => `coalesce(length(CAST(${quoted(column.name)} AS BLOB)) > 1000000, 0)`);
    this.try(`DELETE FROM ${quoted(table.name)} WHERE ${isHuge.join(' OR ')}`);
  }

  #trim(table: TableInfo): void {
    const [count] = this.#db.rows(`SELECT count(*) FROM ${quoted(table.name)}`)[0] as [bigint];
    if (count > this.#plan.maxRows) this.try(`DELETE FROM ${quoted(table.name)} WHERE ${this.#position(table)} % 2 = ${this.random.int(2)}`);
    else this.#insert(table, 'INSERT', 1);
  }

  #alter(table: TableInfo, tables: readonly TableInfo[]): void {
    const { random } = this;
    const t = quoted(table.name);
    const plain = table.columns.filter((column) => column.pk === 0);
    const other = random.pick(tables);
    const column = random.pick(table.columns);
    switch (random.int(20)) {
      case 0:
      case 1:
        if (table.columns.length < 40 || random.chance(0.1))
          this.try(
            `ALTER TABLE ${t} ADD COLUMN ${quoted(this.#name('c'))} ${random.pick(table.strict ? STRICT_TYPES : TYPES)} ${random.chance(0.3) ? 'NOT NULL' : ''} ${random.chance(0.6) ? `DEFAULT ${random.pick(DEFAULTS)}` : ''}`,
          );
        break;
      case 2:
        this.try(
          `ALTER TABLE ${t} ADD COLUMN ${quoted(this.#name('g'))} ${random.pick(['TEXT', 'INT'])} AS (coalesce(${quoted(column.name)}, 1)) ${random.pick(['', 'VIRTUAL', 'STORED'])}`,
        );
        break;
      case 3:
      case 4:
        if (plain.length > 0) this.try(`ALTER TABLE ${t} DROP COLUMN ${quoted(random.pick(plain).name)}`);
        break;
      case 5:
        this.try(`ALTER TABLE ${t} RENAME COLUMN ${quoted(column.name)} TO ${quoted(this.#name('r'))}`);
        break;
      case 6: {
        if (plain.length < 2) break;
        const [a, b] = [quoted(plain[0]!.name), quoted(plain[1]!.name)];
        this.try(`ALTER TABLE ${t} RENAME COLUMN ${a} TO swap_tmp`);
        this.try(`ALTER TABLE ${t} RENAME COLUMN ${b} TO ${a}`);
        this.try(`ALTER TABLE ${t} RENAME COLUMN swap_tmp TO ${b}`);
        break;
      }
      case 7: {
        const name = random.chance(0.2) ? swapCase(table.name) : this.#name('n');
        this.try(`ALTER TABLE ${t} RENAME TO ${quoted(name)}`);
        break;
      }
      case 8:
        if (other.name === table.name) break;
        this.try(`ALTER TABLE ${t} RENAME TO swap_t`);
        this.try(`ALTER TABLE ${quoted(other.name)} RENAME TO ${t}`);
        this.try(`ALTER TABLE swap_t RENAME TO ${quoted(other.name)}`);
        break;
      case 9:
        if (tables.length > 2) this.try(`DROP TABLE ${t}`);
        break;
      case 10:
      case 11:
        this.#rebuild(table);
        break;
      case 12:
      case 13: {
        const kind = random.pick(['', '', 'UNIQUE']);
        const expression = random.pick([
          quoted(column.name),
          `${quoted(column.name)} DESC`,
          `lower(${quoted(column.name)})`,
          `${quoted(column.name)} COLLATE NOCASE`,
        ]);
        this.try(
          `CREATE ${kind} INDEX ${quoted(this.#name('i'))} ON ${t} (${expression}) ${random.chance(0.3) ? `WHERE ${quoted(column.name)} IS NOT NULL` : ''}`,
        );
        break;
      }
      case 14:
      case 15: {
        const [index] = this.#db.rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL LIMIT 1");
        if (index !== undefined) this.try(`DROP INDEX ${quoted(String(index[0]))}`);
        break;
      }
      case 16:
        this.try(
          random.pick([
            `ALTER TABLE ${t} ALTER COLUMN ${quoted(column.name)} SET NOT NULL`,
            `ALTER TABLE ${t} ALTER COLUMN ${quoted(column.name)} DROP NOT NULL`,
            `ALTER TABLE ${t} ADD CONSTRAINT fuzz_check CHECK (${quoted(column.name)} IS NOT 'never')`,
            `ALTER TABLE ${t} DROP CONSTRAINT fuzz_check`,
          ]),
        );
        break;
      case 17:
        this.#editSchema(table);
        break;
      case 18:
        this.#replaceTable(table);
        break;
      default:
        if (random.chance(0.5)) this.#createTrigger();
        else {
          const [trigger] = this.#db.rows("SELECT name FROM sqlite_schema WHERE type = 'trigger' LIMIT 1");
          if (trigger !== undefined) this.try(`DROP TRIGGER ${quoted(String(trigger[0]))}`);
        }
    }
  }

  /** As Blade migrates: a new table, the rows by position, drop, rename. Rowids of tables without a rowid key are renumbered. */
  #rebuild(table: TableInfo): void {
    const sql = this.#db.rows("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", table.name)[0]?.[0];
    if (typeof sql !== 'string') return;
    const temporary = quoted(`ronin_temp_${table.name}`);
    const columns = names(this.#writable(table));
    // The definition begins behind the name; a name may hold a parenthesis, and then SQLite refuses what comes out.
    if (!this.try(`CREATE TABLE ${temporary} ${sql.slice(sql.indexOf('('))}`)) return;
    const order = this.random.pick(['', '', `ORDER BY ${this.#position(table)} DESC`]);
    this.try(`INSERT OR IGNORE INTO ${temporary} (${columns}) SELECT ${columns} FROM ${quoted(table.name)} ${order}`);
    this.try(`DROP TABLE ${quoted(table.name)}`);
    this.try(`ALTER TABLE ${temporary} RENAME TO ${quoted(table.name)}`);
  }

  /** Another table takes the name, with the rows that fit. */
  #replaceTable(table: TableInfo): void {
    const columns = this.#writable(table).slice(0, 1 + this.random.int(4));
    const definition = columns.map((column) => `${quoted(column.name)} ${this.random.pick(TYPES)}`);
    if (this.random.chance(0.4)) definition[0] = `${quoted(columns[0]!.name)} ${this.random.pick(['TEXT', 'INT', 'INTEGER'])} PRIMARY KEY`;
    this.try('DROP TABLE IF EXISTS temp.kept');
    this.try(`CREATE TEMP TABLE kept AS SELECT ${names(columns)} FROM ${quoted(table.name)}`);
    if (this.try(`DROP TABLE ${quoted(table.name)}`)) {
      this.try(`CREATE TABLE main.${quoted(table.name)} (${definition.join()})`);
      this.try(`INSERT OR IGNORE INTO main.${quoted(table.name)} SELECT * FROM temp.kept`);
    }
    this.try('DROP TABLE IF EXISTS temp.kept');
  }

  /** The schema table edited by hand, within what its documentation allows: another spelling of the same type. */
  #editSchema(table: TableInfo): void {
    this.#db.allowSchemaEdits(true);
    this.try('PRAGMA writable_schema = ON');
    this.try("UPDATE sqlite_schema SET sql = replace(sql, ' VARCHAR(20)', ' VARCHAR(44)') WHERE type = 'table' AND name = ?", table.name);
    this.try(`PRAGMA schema_version = ${this.#schema.version() + 1n}`);
    this.try('PRAGMA writable_schema = OFF');
    this.#db.allowSchemaEdits(false);
  }

  #createTrigger(): void {
    const source = this.random.pick([...this.#schema.tables.keys()].filter((name) => name !== 'fuzz_order' && !name.startsWith('audit')));
    if (source === undefined) return;
    this.try('CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, what TEXT)');
    const event = this.random.pick(['INSERT', 'UPDATE', 'DELETE']);
    this.try(
      `CREATE TRIGGER ${quoted(this.#name('tr'))} AFTER ${event} ON ${quoted(source)} BEGIN INSERT INTO audit (what) VALUES ('${event}'); DELETE FROM audit WHERE id < (SELECT max(id) - 40 FROM audit); END`,
    );
  }

  /** Parent and children with every action. */
  #createRelated(): void {
    const { random } = this;
    const parent = this.#name('parent');
    this.try(`CREATE TABLE ${quoted(parent)} (id ${random.pick(['INTEGER', 'TEXT'])} PRIMARY KEY, name TEXT)`);
    const count = 1 + random.int(2);
    for (let index = 0; index < count; index += 1) {
      const action = random.pick(['CASCADE', 'CASCADE', 'SET NULL', 'SET DEFAULT', 'NO ACTION']);
      this.try(
        `CREATE TABLE ${quoted(this.#name('child'))} (id INTEGER PRIMARY KEY, parent REFERENCES ${quoted(parent)}(id) ON DELETE ${action} ON UPDATE ${action} ${random.chance(0.3) ? 'DEFERRABLE INITIALLY DEFERRED' : ''}, v)`,
      );
    }
  }

  #createWide(columns: number): void {
    const list = Array.from(
      { length: columns },
      (_, index) => `c${index} ${index % 7 === 0 ? 'INTEGER' : ''} ${index % 50 === 0 ? 'DEFAULT 5' : ''}`,
    );
    this.try(`CREATE TABLE ${quoted(this.#name('wide'))} (${list.join(', ')})`);
  }

  #createTable(): void {
    const { random } = this;
    const strict = random.chance(0.2);
    const plain = Array.from({ length: 1 + random.int(6) }, (_, index) => {
      const name = quoted(random.chance(0.15) ? `${random.pick(ODD_NAMES)}${index}` : `c${index}`);
      const type = random.pick(strict ? STRICT_TYPES : TYPES);
      return `${name} ${type} ${random.chance(0.12) ? `DEFAULT ${random.pick(['5', "'d'", '(random() % 3)', 'CURRENT_DATE'])}` : ''} ${random.chance(0.06) ? 'UNIQUE' : ''} ${random.chance(0.05) ? 'COLLATE NOCASE' : ''}`;
    });
    const keyType = strict ? 'INT' : 'VARCHAR(20)';
    const [columns, kind] = random.chance(0.25)
      ? [this.#clusteredColumns(plain, keyType), 'WITHOUT ROWID']
      : [this.#rowidColumns(plain, keyType), ''];
    const options = [kind, strict ? 'STRICT' : ''].filter((word) => word !== '').join(', ');
    this.try(`CREATE TABLE ${quoted(this.#name(random.chance(0.2) ? random.pick(ODD_NAMES) : 't'))} (${columns.join(', ')}) ${options}`);
  }

  #rowidColumns(plain: readonly string[], keyType: string): readonly string[] {
    return this.random.pick([
      ['id INTEGER PRIMARY KEY', ...plain],
      ['id INTEGER PRIMARY KEY', ...plain],
      [...plain, 'id INTEGER PRIMARY KEY AUTOINCREMENT'],
      ['id INTEGER PRIMARY KEY DESC', ...plain],
      ['id TEXT PRIMARY KEY', ...plain],
      ['id TEXT PRIMARY KEY COLLATE NOCASE', ...plain],
      ['id INT PRIMARY KEY', ...plain],
      [`a ${keyType}`, 'b TEXT', ...plain, 'PRIMARY KEY (b, a DESC)'],
      [`id ${keyType} NOT NULL PRIMARY KEY`, ...plain, "g TEXT AS (id || '!') STORED", 'v INT AS (1 + 1) VIRTUAL'],
      ['v INT AS (7)', ...plain, 's TEXT GENERATED ALWAYS AS (c0) STORED'],
      plain,
      [...plain, 'UNIQUE (c0)'],
    ]);
  }

  /** Of WITHOUT ROWID tables. */
  #clusteredColumns(plain: readonly string[], keyType: string): readonly string[] {
    return this.random.pick([
      ['id TEXT PRIMARY KEY COLLATE NOCASE', ...plain],
      ['id INTEGER PRIMARY KEY', ...plain],
      ['id REAL PRIMARY KEY DESC', ...plain],
      [...plain, `k ${keyType}`, 'PRIMARY KEY (k)'],
      [...plain, 'k TEXT', 'PRIMARY KEY (k, k COLLATE NOCASE DESC)'],
      [...plain, `a ${keyType}`, 'v INT AS (1 + 1) VIRTUAL', 'b TEXT COLLATE RTRIM', "s TEXT AS (b || '!') STORED", 'PRIMARY KEY (b DESC, a)'],
    ]);
  }

  #name(prefix: string): string {
    this.#names += 1;
    return `${prefix}_${this.#prefix}_${this.#names}`;
  }

  #columnValue(table: TableInfo, column: ColumnInfo): Parameter {
    if (column.pk > 0) return isRowidType(column.type) && table.key.length === 0 ? this.#rowid() : this.#key(column, table.strict);
    // What a foreign key may refer to.
    if (column.name === 'parent') return this.#key(column, false);
    return this.#value(column.type, table.strict);
  }

  #rowid(): Parameter {
    const { random } = this;
    switch (random.int(9)) {
      case 0:
        return 9223372036854770000n + BigInt(random.int(1000));
      case 1:
        return -9223372036854775808n + BigInt(random.int(1000));
      case 2:
        return 9007199254740990n + BigInt(random.int(5));
      case 3:
        return -random.int(1000);
      default:
        return random.int(200);
    }
  }

  #key(column: ColumnInfo, strict: boolean): Parameter {
    const { random } = this;
    if (strict) return this.#value(column.type, true);
    const roll = random.int(24);
    if (roll === 0) return null;
    if (roll === 1) return Buffer.from([random.int(256)]);
    if (roll === 2) return random.int(30) + 0.5;
    if (roll === 3) return random.pick(['A', 'a', 'é', '\0', 'a\0b', '']);
    if (roll === 4) return BigInt(random.pick(['9223372036854775807', '-9223372036854775808', '9007199254740993']));
    if (roll < 10) return random.int(200);
    return `${random.pick(['k', 'K'])}${random.int(200)}${random.chance(0.1) ? ' ' : ''}`;
  }

  #value(type: string, strict: boolean): Parameter {
    const { random } = this;
    if (strict && type !== 'ANY' && !random.chance(0.02)) {
      if (random.chance(0.08)) return null;
      if (type === 'TEXT') return `${random.pick(WORDS)}${random.int(200)}`;
      if (type === 'BLOB') return Buffer.alloc(random.int(random.chance(0.1) ? 5000 : 30), random.int(256));
      if (type === 'REAL') return random.pick([1.5, -0, 3, 1e300, -Infinity, random.int(100)]);
      return random.chance(0.2) ? 2n ** BigInt(random.int(63)) : random.int(100);
    }
    switch (random.int(14)) {
      case 0:
        return null;
      case 1:
        return random.int(100);
      case 2:
        return BigInt(
          random.pick([
            '9223372036854775807',
            '-9223372036854775808',
            '9007199254740993',
            '-1',
            '255',
            '65536',
            '-129',
            '8388608',
            '140737488355328',
          ]),
        );
      case 3:
        return random.pick([1.5, -0, 1e300, Infinity, -Infinity, 0.1, 3, 5e-324, 9007199254740992]);
      case 4:
        return Buffer.alloc(random.int(30), random.int(256));
      case 5:
        return random.chance(0.4)
          ? Buffer.alloc(random.int(random.chance(0.03) ? 300_000 : 9000), random.int(256))
          : Buffer.alloc(random.int(600), random.int(256));
      case 6:
        return random.pick(WORDS).repeat(random.int(random.chance(0.2) ? 200 : 8));
      default:
        return `${random.pick(WORDS)}${random.int(1000)}`;
    }
  }
}

const names = (columns: readonly ColumnInfo[]): string => columns.map((column) => quoted(column.name)).join();
const isRowidType = (type: string): boolean => type.toUpperCase() === 'INTEGER';
const swapCase = (name: string): string => (name === name.toUpperCase() ? name.toLowerCase() : name.toUpperCase());
