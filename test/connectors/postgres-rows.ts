/** How tests read a Postgres target and what they expect there. */
import { quoteName, targetColumnName, targetTableName } from '../../connectors/postgres/names.ts';
import { plainNumber } from '../../connectors/value-text.ts';
import type { Value } from '../../src/change/table.ts';
import type { SinkColumn, SinkTable } from '../../src/pipeline/sink.ts';

/** All columns as text. */
export const selectRows = (table: SinkTable): string =>
  `SELECT ${table.columns.map((column, index) => `${quoteName(targetColumnName(column.name))}::text AS c${index}`).join(', ')} FROM ${quoteName(targetTableName(table.name))}`;

/** What `selectRows` gives for a value. */
export const showInPostgres = (value: Value, column: SinkColumn): string | null => {
  if (value === null) return null;
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  return column.affinity === 'REAL' ? canonicalReal(String(value), column) : typeof value === 'bigint' ? String(value) : plainNumber(value);
};

/** float8 writes exponents in its own way. */
export const canonicalReal = (text: string | null, column: SinkColumn): string | null =>
  text !== null && column.affinity === 'REAL' && /^-?(\d|Inf)/.test(text) && !Number.isNaN(Number(text)) ? plainNumber(Number(text)) : text;
