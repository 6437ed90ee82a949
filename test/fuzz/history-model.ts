/**
 * The log applied change by change, strictly, beside the writers' accounts: what a consumer of the log ends up with must be, after
 * each transaction, what SQLite told the transaction's own writer.
 */
import assert from 'node:assert/strict';
import type { Change, RowChange, SchemaChange } from '../../src/change/change.ts';
import type { Row } from '../../src/change/row.ts';
import type { Catalog, Table, TextEncoding } from '../../src/change/table.ts';
import { matchColumns } from '../../src/diff/column-changes.ts';
import { serialTypeLength } from '../../src/sqlite/record.ts';
import { readVarint, varintEnd } from '../../src/sqlite/varint.ts';
import { addHash, hashText, parseRowText, subtractHash, type TableAccount, valueText } from './account.ts';

interface ModelRow {
  readonly rowid: string;
  readonly values: readonly string[];
  readonly hash: number;
}

interface ModelTable {
  table: Table;
  rows: Map<string, ModelRow>;
  sum: number;
}

export class HistoryModel {
  readonly tables = new Map<string, ModelTable>();
  /**
   * Updates that give the same row other bytes: a record that was older than a column and now holds its default, or an integral value of
   * a REAL column that was stored as a double and now as an integer. REINDEX and rebuilt tables make them by the hundred.
   */
  idleUpdates = 0;
  readonly #encoding: TextEncoding;

  /** The state that capture began with: its catalog, and the rows that the account tells. */
  constructor(catalog: Catalog, accounts: readonly TableAccount[]) {
    this.#encoding = catalog.encoding;
    assert.deepEqual(catalog.tables.map((table) => table.name).toSorted(), accounts.map((account) => account.name).toSorted(), 'captured tables');
    for (const account of accounts) {
      const table = catalog.tables.find((each) => each.name === account.name)!;
      const model: ModelTable = { table, rows: new Map(), sum: 0 };
      this.tables.set(table.name, model);
      for (const text of account.added) {
        const { rowid, values } = parseRowText(text);
        insert(model, modelRow(table, rowid ?? '', values));
      }
      this.compare(account);
    }
  }

  /** Applies a transaction; gives the names of the tables that it changed. */
  apply(changes: readonly Change[]): Set<string> {
    const changed = new Set<string>();
    const seen = new Set<string>();
    /** Rows as they were before the transaction altered their table: before images have the old columns. */
    const unaltered = new Map<string, ReadonlyMap<string, ModelRow>>();
    for (const change of changes) {
      const name = change.op === 's' ? change.name : change.table.name;
      if (change.op === 's') {
        changed.add(name);
        const known = this.tables.get(name);
        if (known !== undefined) unaltered.set(name, known.rows);
        this.#schema(change);
        continue;
      }
      const model = this.tables.get(name);
      assert(model !== undefined, `${change.op} of table ${name}, which is not there`);
      if (change.op === 't') {
        changed.add(name);
        model.rows = new Map();
        model.sum = 0;
        continue;
      }
      if (this.#row(change, { model, before: unaltered.get(name) ?? model.rows, seen })) changed.add(name);
    }
    return changed;
  }

  /** What the writer told of a table is what stands here. */
  compare(account: TableAccount): void {
    const { name } = account;
    const model = this.tables.get(name);
    assert(model !== undefined, `table ${name} is not in the log's catalog`);
    const columns = model.table.columns.map((column) => column.name);
    assert.deepEqual(columns, account.columns, `columns of table ${name}`);
    assert.equal(model.rows.size, account.rows, `number of rows of table ${name}`);
    assert.equal(model.sum, account.sum, `content of table ${name}`);
  }

  /** For a report: row texts that are only here, and only there. */
  difference(name: string, texts: ReadonlySet<string>): { log: string[]; sqlite: string[] } {
    const own = new Set([...(this.tables.get(name)?.rows.values() ?? [])].map((row) => textOf(row)));
    return { log: [...own].filter((text) => !texts.has(text)), sqlite: [...texts].filter((text) => !own.has(text)) };
  }

  /** Sum of rows as an account has it, or with the rowid in front of each (`rowidSum`). */
  sumOf(rows: readonly Row[], withRowid = false): number {
    let sum = 0;
    for (const row of rows) sum = addHash(sum, withRowid ? hashText(`${row.rowid}:${textOf(this.#decode(row))}`) : this.#decode(row).hash);
    return sum;
  }

  /** Without the rowid: what VACUUM leaves as it is. */
  valuesOf(row: Row): string {
    return this.#decode(row).values.join('|');
  }

  /** Whether the row says something else now. */
  #row(change: RowChange, where: { model: ModelTable; before: ReadonlyMap<string, ModelRow>; seen: Set<string> }): boolean {
    const { model, before, seen } = where;
    const { op } = change;
    const { name } = model.table;
    const old = change.before === null ? null : this.#decode(change.before);
    const now = change.after === null ? null : this.#decode(change.after);
    assert.equal(old !== null, op === 'u' || op === 'd', `op ${op} and its before image`);
    assert.equal(now !== null, op === 'u' || op === 'c', `op ${op} and its after image`);
    const oldKey = old === null ? null : keyOf(change.before!.table, old);
    const key = now === null ? oldKey! : keyOf(model.table, now);
    const once = `${op} of ${name} ${key}`;
    assert(!seen.has(`${name} ${key}`), `two changes of one key: ${once}`);
    seen.add(`${name} ${key}`);
    if (now !== null) assert.equal(change.after!.table.sql, model.table.sql, `table of ${once}`);
    let isIdle = false;
    if (op === 'c') {
      assert(!model.rows.has(key), `the row is there already: ${once}`);
    } else {
      if (op === 'u') assert.equal(oldKey, key, `the key changed: ${once}`);
      const stood = before.get(key);
      const stands = model.rows.get(key);
      assert(stood !== undefined && stands !== undefined, `the row is not there: ${once}`);
      assert.deepEqual(old!.values, stood.values, `before image: ${once}`);
      if (op === 'u' && now!.values.join('|') === stands.values.join('|')) {
        assert(!change.before!.record.equals(change.after!.record), `nothing changes: ${once}: ${shown(change.before!)}`);
        isIdle = true;
        this.idleUpdates += 1;
      }
      remove(model, key);
    }
    if (now !== null) insert(model, now);
    return !isIdle;
  }

  /** A new column is NULL until a change says otherwise, a dropped one goes, a renamed one keeps its values. */
  #schema({ name, table, previous }: SchemaChange): void {
    const known = this.tables.get(name);
    assert.equal(known !== undefined, previous !== null, `schema change of ${name}: the table before`);
    if (known !== undefined) assert.equal(previous!.sql, known.table.sql, `schema change of ${name}: the definition before`);
    if (table === null) {
      assert.equal(known?.rows.size, 0, `dropped table ${name} still holds rows`);
      this.tables.delete(name);
      return;
    }
    const next: ModelTable = { table, rows: new Map(), sum: 0 };
    this.tables.set(name, next);
    if (known === undefined || known.rows.size === 0) return;
    const places = matchColumns(known.table, table);
    for (const row of known.rows.values()) {
      insert(
        next,
        modelRow(
          table,
          row.rowid,
          places.map((place) => (place === -1 ? 'n' : row.values[place]!)),
        ),
      );
    }
  }

  #decode(row: Row): ModelRow {
    const { table } = row;
    const values = row.values('bigint');
    const texts = values.map((value, column) => {
      if (value instanceof Uint8Array) return valueText(`b${upperHex(value)}`);
      return typeof value === 'string' ? valueText(`t${upperHex(this.#bytes(value, row, column))}`) : valueText(value);
    });
    return modelRow(table, String(row.rowid), texts);
  }

  /** The text as it is stored. U+FFFD may stand for bytes that are no text. */
  #bytes(value: string, row: Row, column: number): Uint8Array {
    if (value.includes('\uFFFD'))
      return storedBytes(row.record, row.table.withoutRowid?.fields.indexOf(column) ?? column) ?? encode(value, this.#encoding);
    return encode(value, this.#encoding);
  }
}

/** Header and first values of a record. */
const shown = (row: Row): string => row.record.toString('hex').slice(0, 200);

const encode = (text: string, encoding: TextEncoding): Buffer => {
  if (encoding === 'utf8') return Buffer.from(text);
  const bytes = Buffer.from(text, 'utf16le');
  return encoding === 'utf16be' ? bytes.swap16() : bytes;
};

/** Null: the record is too short to hold the column. */
const storedBytes = (record: Buffer, wanted: number): Buffer | null => {
  const headerSize = readVarint(record, 0);
  let header = varintEnd;
  let body = headerSize;
  for (let column = 0; header < headerSize; column += 1) {
    const length = serialTypeLength(readVarint(record, header));
    header = varintEnd;
    if (column === wanted) return record.subarray(body, body + length);
    body += length;
  }
  return null;
};

const upperHex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex').toUpperCase();

/** The rowid stands in a row's text where no declared key tells the row. */
const modelRow = (table: Table, rowid: string, values: readonly string[]): ModelRow => {
  const needsRowid =
    table.withoutRowid === undefined && (table.key.length === 0 || table.rowidAlias !== -1 || table.key.some((place) => values[place] === 'n'));
  const row = { rowid: needsRowid ? rowid : '', values };
  return { ...row, hash: hashText(textOf(row)) };
};

const textOf = ({ rowid, values }: Pick<ModelRow, 'rowid' | 'values'>): string => (rowid === '' ? values.join('|') : `@${rowid}|${values.join('|')}`);

/** Numbers are one key where SQLite's own index holds them to be: 1 and 1.0. */
const keyOf = (table: Table, { rowid, values }: ModelRow): string =>
  table.key.length === 0 || table.rowidAlias !== -1
    ? `@${rowid}`
    : `${rowid === '' ? '' : `@${rowid}|`}${table.key.map((place) => keyText(values[place]!)).join('|')}`;

const keyText = (text: string): string => {
  if (!text.startsWith('r')) return text;
  const value = Number(text.slice(1));
  return Number.isInteger(value) && Math.abs(value) < 2 ** 63 ? `i${BigInt(value)}` : text;
};

const insert = (model: ModelTable, row: ModelRow): void => {
  const key = keyOf(model.table, row);
  assert(!model.rows.has(key), `two rows of one key: ${model.table.name} ${key}`);
  model.rows.set(key, row);
  model.sum = addHash(model.sum, row.hash);
};

const remove = (model: ModelTable, key: string): void => {
  model.sum = subtractHash(model.sum, model.rows.get(key)!.hash);
  model.rows.delete(key);
};
