/**
 * Rows in the text format of COPY (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"): a line a row, tabs between the values,
 * `\N` for NULL, a backslash before what would be mistaken. What stands between is the text of an array's elements.
 */
import type { Value } from '../../src/change/table.ts';
import { hex, textOf } from '../value-text.ts';
import { type Element, ELEMENTS } from './array-literal.ts';
import type { ColumnKind } from './column-type.ts';

export interface CopyColumn {
  readonly kind: ColumnKind;
  /** No NULL in it. */
  readonly isKey: boolean;
}

/**
 * Null: a value does not fit its column, or NULL stands in a key. `lenient` as for arrays: text goes to any column as it is, so that the server
 * judges it; blobs go only into bytea.
 */
export const copyText = (rows: readonly (readonly Value[])[], columns: readonly CopyColumn[], lenient: boolean): string | null => {
  const fields = columns.map(({ kind }) => fieldOf(kind, lenient));
  let text = '';
  for (const row of rows) {
    for (let index = 0; index < fields.length; index += 1) {
      if (index !== 0) text += '\t';
      const value = row[index]!;
      if (value === null) {
        if (columns[index]!.isKey) return null;
        text += String.raw`\N`;
        continue;
      }
      const field = fields[index]!(value);
      if (field === null) return null;
      text += field;
    }
    text += '\n';
  }
  return text;
};

const SPECIAL = /[\\\t\n\r\0]/;
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': String.raw`\t`, '\n': String.raw`\n`, '\r': String.raw`\r` };

const escaped = (text: string): string | null => {
  if (!SPECIAL.test(text)) return text;
  return text.includes('\0') ? null : text.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character]!);
};

const FIELDS: Partial<Record<ColumnKind, Element>> = {
  text: (value) => escaped(textOf(value)),
  bytea: (value) => (value instanceof Uint8Array ? `\\\\x${hex(value)}` : null),
  other: (value) => (value instanceof Uint8Array ? null : escaped(textOf(value))),
};

const fieldOf = (kind: ColumnKind, lenient: boolean): Element => {
  const field = FIELDS[kind] ?? ELEMENTS[kind];
  if (!lenient || kind === 'bytea') return field;
  return (value) => {
    if (typeof value === 'string') return escaped(value);
    return kind === 'text' && value instanceof Uint8Array ? null : field(value);
  };
};
