/** One change as a coloured line: `   12 ~ accounts acc_1  name: "Ann" → "Anna"`. */
import { styleText } from 'node:util';
import type { Value } from '../change/table.ts';
import type { SinkChange, SinkRowChange, SinkTable } from '../pipeline/sink.ts';

const MARKS = {
  c: { sign: '+', style: 'green' },
  u: { sign: '~', style: 'yellow' },
  d: { sign: '-', style: 'red' },
  r: { sign: '·', style: 'cyan' },
  t: { sign: '∅', style: 'red' },
  s: { sign: '#', style: 'magenta' },
} as const;

const MAX_CHARACTERS = 60;

export const formatChange = (change: SinkChange): string => {
  const { sign, style } = MARKS[change.op];
  const table = change.op === 's' ? (change.table ?? change.previous) : change.table;
  const seq = change.source.seq === null ? '' : String(change.source.seq);
  const head = `${styleText('dim', seq.padStart(6))} ${styleText(style, sign)} ${styleText('bold', table?.name ?? '')}`;
  const rest = details(change);
  return rest === '' ? head : `${head} ${rest}`;
};

const details = (change: SinkChange): string => {
  switch (change.op) {
    case 's':
      if (change.table === null) return 'dropped';
      return `${change.previous === null ? 'created' : 'altered'} (${change.table.columns.map((column) => column.name).join(', ')})`;
    case 't':
      return 'all rows gone';
    case 'd':
      return key(change);
    case 'u':
      return `${key(change)}  ${changedColumns(change)}`;
    case 'c':
    case 'r':
      return `${key(change)}  ${otherColumns(change.table, change.after ?? [])}`;
  }
};

const key = (change: SinkRowChange): string =>
  change.key.map((value) => (typeof value === 'string' && /^[\w.:@-]+$/.test(value) ? value : show(value))).join(' ');

const otherColumns = (table: SinkTable, values: readonly Value[]): string =>
  table.columns
    .map((column, index) =>
      table.key.includes(index) || values[index] == null ? '' : `${styleText('dim', `${column.name}:`)} ${show(values[index])}`,
    )
    .filter((text) => text !== '')
    .join('  ');

const changedColumns = ({ table, before, after }: SinkRowChange): string =>
  table.columns
    .map((column, index) => [column.name, show(before?.[index] ?? null), show(after?.[index] ?? null)] as const)
    .filter(([, old, now]) => old !== now)
    .map(([name, old, now]) => `${styleText('dim', `${name}:`)} ${old} → ${now}`)
    .join('  ');

const show = (value: Value): string => {
  if (value === null) return 'null';
  if (value instanceof Uint8Array) return `<${value.length} bytes>`;
  if (typeof value !== 'string') return String(value);
  // Quoted as JSON: no control character of a row reaches the terminal.
  return JSON.stringify(value.length <= MAX_CHARACTERS ? value : `${value.slice(0, MAX_CHARACTERS)}…`);
};
