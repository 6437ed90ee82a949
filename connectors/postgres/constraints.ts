/**
 * Constraints of target tables beyond the key: what was legal in the hive as a whole must be legal here step by step, unless it is deferred.
 * Tables that waggle created have none; a user's may have unique columns and foreign keys.
 */
import { sqlState } from './errors.ts';
import { targetTableName } from './names.ts';
import type { Statement, TableWriter } from './table-writer.ts';
import { qualified, type Target, type TargetTable } from './target-table.ts';

export interface TableConstraints {
  /** Names of the tables that its foreign keys refer to, itself left out. */
  readonly references: readonly string[];
  /** It has a unique index beside the key, an exclusion, or a foreign key, or one refers to it. */
  readonly constrained: boolean;
  /** A row can be deleted and written again: it has no column that waggle does not write, and nothing happens to other rows by the delete. */
  readonly replaceable: boolean;
}

export const readConstraints = async (target: Target, table: TargetTable): Promise<TableConstraints> => {
  const rows = await target.session.query(
    `SELECT 'references' AS what, f.relname::text AS name FROM pg_constraint c JOIN pg_class f ON f.oid = c.confrelid
       WHERE c.contype = 'f' AND c.conrelid = to_regclass($1) AND c.confrelid <> c.conrelid
     UNION ALL SELECT CASE WHEN c.confdeltype IN ('a', 'r') THEN 'referred' ELSE 'cascades' END, c.conname::text FROM pg_constraint c
       WHERE c.contype = 'f' AND c.confrelid = to_regclass($1)
     UNION ALL SELECT 'unique', x.indexrelid::text FROM pg_index x WHERE x.indrelid = to_regclass($1) AND (x.indisunique OR x.indisexclusion)
     UNION ALL SELECT 'column', a.attname::text FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''`,
    [qualified(target, targetTableName(table.table.name))],
  );
  const count = (what: string): number => rows.filter((row) => row['what'] === what).length;
  const references = rows.flatMap((row) => (row['what'] === 'references' && row['name'] != null ? [row['name']] : []));
  return {
    references,
    constrained: references.length + count('referred') + count('cascades') > 0 || count('unique') > 1,
    replaceable: count('cascades') === 0 && count('column') <= table.columns.length,
  };
};

/** Tables with foreign keys behind those that they refer to; in a circle as they come. */
export const parentsFirst = (writers: readonly TableWriter[]): TableWriter[] => {
  const byName = new Map(writers.map((writer) => [writer.target.name, writer]));
  const ordered = new Set<TableWriter>();
  const entered = new Set<TableWriter>();
  const visit = (writer: TableWriter): void => {
    if (entered.has(writer)) return;
    entered.add(writer);
    for (const name of writer.constraints.references) {
      const parent = byName.get(name);
      if (parent !== undefined) visit(parent);
    }
    ordered.add(writer);
  };
  for (const writer of writers) visit(writer);
  return [...ordered];
};

/**
 * Statements of one part, parents first, in the orders that are worth a try. Deletes first: a unique value moves from a deleted row to another.
 * Deletes last: children leave their parent before it goes. At last every row is deleted before it is written: unique values change places.
 */
export const ordersOf = (statements: readonly Statement[]): Statement[][] => {
  const upserts = statements.filter(({ kind }) => kind === 'upsert');
  const deletes = statements.filter(({ kind }) => kind === 'delete').reverse();
  const clearing = upserts.filter(({ writer }) => writer.constraints.replaceable).map((upsert) => upsert.writer.clearing(upsert));
  return [
    [...deletes, ...upserts],
    [...upserts, ...deletes],
    [...clearing.reverse(), ...deletes, ...upserts],
  ];
};

/** Another order of the statements may be legal: foreign key, unique, exclusion. */
export const isOrderConflict = (error: unknown): boolean => ['23503', '23505', '23P01'].includes(sqlState(error) ?? '');
