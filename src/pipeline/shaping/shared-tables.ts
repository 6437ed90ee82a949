/** Two sinks that write one table would undo each other's rows, and none of them could tell. */
import type { Catalog, Table } from '../../change/table.ts';
import { WaggleError } from '../../support/errors.ts';
import { TableMapping, type MappingOptions } from '../mapping.ts';
import type { SinkTable } from '../sink.ts';
import { sharedTable } from '../target-places.ts';

export interface TableWriter {
  readonly name: string;
  /** Names the place of its tables; null: it keeps none. */
  readonly tablesIn: string | null;
  readonly mapping: Pick<MappingOptions, 'filters' | 'tables' | 'maskKey' | 'place'>;
}

/** Throws CONFIG_INVALID where two sinks would write the same table of one place. */
export const checkSharedTables = (sinks: readonly TableWriter[], catalog: Catalog): void => {
  const owners = new Map<string, string>();
  for (const { name, tablesIn, mapping } of sinks) {
    if (tablesIn === null) continue;
    const shaping = new TableMapping(mapping);
    for (const source of catalog.tables) {
      const table = tableOf(shaping, source);
      if (table === null) continue;
      const place = `${tablesIn}\0${table.name}`;
      const owner = owners.get(place);
      if (owner !== undefined && owner !== name) throw sharedTable([owner, name], table.name);
      owners.set(place, name);
    }
  }
};

/** Null also where the mapping contradicts the table: that is the sink's own error, and stops it alone. */
const tableOf = (shaping: TableMapping, source: Table): SinkTable | null => {
  try {
    return shaping.table(source);
  } catch (error) {
    if (error instanceof WaggleError) return null;
    throw error;
  }
};
