/** Which tables a sink must get anew because its configuration changed between two starts. */
import type { Catalog } from '../change/table.ts';
import { type MappingOptions, TableMapping } from './mapping.ts';

/** What the configuration says of a sink's tables; plain data. */
export type MappingSpec = Pick<MappingOptions, 'filters' | 'tables' | 'maskKey'>;

export interface MappingChanges {
  /** The sink did not get them before. */
  readonly added: readonly string[];
  /** It got them in another form. */
  readonly changed: readonly string[];
}

/** Names in the hive. `before`: the JSON of a MappingSpec, as it was kept. */
export const mappingChanges = (before: string, now: MappingSpec, catalog: Catalog): MappingChanges => {
  const old = JSON.parse(before) as MappingSpec;
  const [oldRest, newRest] = [old, now].map((spec) => JSON.stringify({ ...spec, filters: null, tables: null }));
  const [oldMapping, newMapping] = [new TableMapping(old), new TableMapping(now)];
  const added: string[] = [];
  const changed: string[] = [];
  for (const table of catalog.tables) {
    if (newMapping.table(table) === null) continue;
    if (oldMapping.table(table) === null) added.push(table.name);
    else if (oldRest !== newRest || optionsOf(oldMapping, table.name) !== optionsOf(newMapping, table.name)) changed.push(table.name);
  }
  return { added, changed };
};

const optionsOf = (mapping: TableMapping, table: string): string => JSON.stringify(mapping.optionsOf(table));
