/**
 * Catalog versions as JSON. Only `defaultValue` needs care: it can be a bigint, bytes, an infinity or -0.
 *
 *     {"$int":"9007199254740993"}   {"$blob":"<base64>"}   {"$real":"Infinity"}
 */
import { type Catalog, type Table, type Value } from '../change/table.ts';

export const encodeCatalog = (catalog: Catalog): string =>
  JSON.stringify({ version: catalog.version, encoding: catalog.encoding, tables: catalog.tables.map(encodeTable) });

/** One table as JSON text: equal texts are equal tables. */
export const tableText = (table: Table): string => JSON.stringify(encodeTable(table));

/**
 * Keeps one object per table version: a table that reads the same in two catalogs is the same object in both, so that
 * whoever compares by identity sees a new version only where something changed.
 */
export class CatalogDecoder {
  readonly #tables = new Map<string, { text: string; table: Table }>();

  /** Throws a SyntaxError on text that is no catalog. */
  decode(json: string): Catalog {
    const raw = JSON.parse(json) as { version: number; encoding: Catalog['encoding']; tables: object[] };
    return { version: raw.version, encoding: raw.encoding, tables: raw.tables.map((table) => this.#intern(table)) };
  }

  #intern(raw: object): Table {
    const text = JSON.stringify(raw);
    const table = JSON.parse(text, (_key, value: unknown) => decodeTagged(value)) as Table;
    const known = this.#tables.get(table.name);
    if (known?.text === text) return known.table;
    this.#tables.set(table.name, { text, table });
    return table;
  }
}

const encodeTable = (table: Table): object => ({
  ...table,
  columns: table.columns.map((column) => ({ ...column, defaultValue: encodeValue(column.defaultValue) })),
});

const encodeValue = (value: Value): unknown => {
  if (typeof value === 'bigint') return { $int: String(value) };
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) return { $real: Object.is(value, -0) ? '-0' : String(value) };
  if (value instanceof Uint8Array) return { $blob: Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64') };
  return value;
};

const decodeTagged = (value: unknown): unknown => {
  if (typeof value !== 'object' || value === null) return value;
  if ('$int' in value) return BigInt(String(value.$int));
  if ('$real' in value) return Number(value.$real);
  if ('$blob' in value) return Buffer.from(String(value.$blob), 'base64');
  return value;
};
