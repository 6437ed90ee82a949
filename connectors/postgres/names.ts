/**
 * Names in Postgres. A name of the hive stands in the target exactly as it is, quoted (case, dots and quotes kept), except:
 *
 *     longer than 63 bytes (UTF-8)         cut to at most 54 bytes, `_` and 8 hex digits of its SHA-256: still distinct
 *     empty, or a system column's name     the same suffix: `ctid` → `ctid_…`
 */
import { createHash } from 'node:crypto';

const MAX_BYTES = 63;
const SYSTEM_COLUMNS = new Set(['ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid']);

const suffixed = (name: string): string => {
  // What a cut through a character leaves behind decodes to U+FFFD.
  const head = Buffer.from(name)
    .subarray(0, MAX_BYTES - 9)
    .toString()
    .replace(/\uFFFD+$/, '');
  return `${head}_${createHash('sha256').update(name).digest('hex').slice(0, 8)}`;
};

/** The name of a table in the target. */
export const targetTableName = (name: string): string => (name === '' || Buffer.byteLength(name) > MAX_BYTES ? suffixed(name) : name);

/** The name of a column in the target. */
export const targetColumnName = (name: string): string => (SYSTEM_COLUMNS.has(name) ? suffixed(name) : targetTableName(name));

export const quoteName = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** A string literal; the session has `standard_conforming_strings` on. */
export const quoteLiteral = (text: string): string => `'${text.replaceAll("'", "''")}'`;
