/** Which tables are captured, by name patterns in which `*` stands for any characters. */
import type { TableFilter } from '../catalog/table-reader.ts';

export const tableFilter = (tables: { readonly include: readonly string[] | null; readonly exclude: readonly string[] }): TableFilter => {
  const included = tables.include?.map(pattern) ?? null;
  const excluded = tables.exclude.map(pattern);
  return (name) => (included === null || included.some((test) => test.test(name))) && !excluded.some((test) => test.test(name));
};

const pattern = (text: string): RegExp => new RegExp(`^${text.split('*').map(RegExp.escape).join('.*')}$`, 's');
