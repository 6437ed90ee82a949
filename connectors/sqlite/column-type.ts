/**
 * Declared types of the copy. The hive's own declared type gives the same affinity, and a value that has gone through an
 * affinity once is not changed by it again: so each value keeps its storage class (INTEGER 1, REAL 1.0, TEXT, BLOB).
 * Where the declared type would not give the column's affinity (ANY of a STRICT table), or is not plain words, the name of
 * the affinity stands there instead. STRICT, NOT NULL, UNIQUE, CHECK, COLLATE and foreign keys are not copied.
 */
import type { Affinity } from '../../src/change/table.ts';
import type { SinkColumn } from '../../src/pipeline/sink.ts';

/** https://sqlite.org/datatype3.html#determination_of_column_affinity */
export const affinityOf = (type: string): Affinity => {
  if (/INT/i.test(type)) return 'INTEGER';
  if (/CHAR|CLOB|TEXT/i.test(type)) return 'TEXT';
  if (type === '' || /BLOB/i.test(type)) return 'BLOB';
  if (/REAL|FLOA|DOUB/i.test(type)) return 'REAL';
  return 'NUMERIC';
};

const PLAIN = /^[A-Za-z_]\w*( \w+)*( ?\([-+\w. ]+(, ?[-+\w. ]+)?\))?$/;
const KEYWORDS = /\b(constraint|primary|unique|check|default|collate|references|not|null|generated|always|as|on|autoincrement)\b/i;

const BY_AFFINITY: Record<Affinity, string> = { INTEGER: 'INT', TEXT: 'TEXT', BLOB: '', REAL: 'REAL', NUMERIC: 'NUMERIC' };

/** `rowidAlias`: the column becomes INTEGER PRIMARY KEY. Any other key column must not become one by its type's name. */
export const declaredType = (column: SinkColumn, rowidAlias: boolean): string => {
  if (rowidAlias) return 'INTEGER';
  const { type } = column;
  if (affinityOf(type) !== column.affinity || !PLAIN.test(type) || KEYWORDS.test(type)) return BY_AFFINITY[column.affinity];
  return /^integer$/i.test(type) ? 'INT' : type;
};
