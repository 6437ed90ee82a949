/** Rows as a replica reads them, kept. */
import type { Replica } from '../../src/capture/replica.ts';
import { Row } from '../../src/change/row.ts';
import type { RowPlace } from '../../src/change/table.ts';

/** Rows of a captured table behind `after`, about `maxBytes` of them. */
export const replicaRows = (
  replica: Replica,
  name: string,
  { after = null, maxBytes = Infinity }: { readonly after?: RowPlace | null; readonly maxBytes?: number } = {},
): { readonly rows: Row[]; readonly done: boolean } => {
  const { table } = replica.schema.byName.get(name)!;
  const rows: Row[] = [];
  const { done } = replica.readRows(name, { after, maxBytes }, (rowid, record) =>
    rows.push(new Row(table, rowid, Buffer.from(record), replica.schema.catalog.encoding)),
  )!;
  return { rows, done };
};
