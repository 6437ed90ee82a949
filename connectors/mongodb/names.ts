/**
 * Names in MongoDB (https://www.mongodb.com/docs/manual/reference/limits/). A name of the hive stands there exactly as it is, except where MongoDB has none
 * like it: it then ends with `_` and 8 hex digits of its SHA-256, and so stays distinct.
 *
 *     field        begins with `$`, empty, with U+0000, `__proto__`; `_id` and `_waggle` have a meaning of their own
 *     collection   with `$` or U+0000, begins with `system.`, empty, longer than 180 bytes
 *
 * A dot in a column's name makes a document inside the document, as Hive means it and as MongoDB's queries read it: `ronin.createdAt` is
 * `{ronin: {createdAt: …}}`. Where that cannot be (`a..b`, or beside a column `ronin`), the dots become `_`, with the suffix.
 */
import { createHash } from 'node:crypto';

const MAX_BYTES = 180;
const FIELDS = new Set(['', '_id', '_waggle', '__proto__']);

const suffixed = (name: string, hashed = name): string => {
  // What a cut through a character leaves behind decodes to U+FFFD.
  const head = Buffer.from(name.replaceAll(/[$\0]/g, '_'))
    .subarray(0, MAX_BYTES - 9)
    .toString()
    .replace(/\uFFFD+$/, '');
  return `${head}_${createHash('sha256').update(hashed).digest('hex').slice(0, 8)}`;
};

/** Where each column stands in a document: the path of its field. Depends on all of them. */
export const fieldPaths = (columns: readonly string[]): readonly (readonly string[])[] => {
  const names = new Set(columns);
  const isInside = (name: string): boolean =>
    columns.some((other) => other !== name && other.startsWith(`${name}.`)) || parents(name).some((parent) => names.has(parent));
  return columns.map((name) => {
    if (!name.includes('.')) return [fieldName(name)];
    const path = name.split('.');
    return path.some((part) => fieldName(part) !== part) || isInside(name) ? [suffixed(name.replaceAll('.', '_'), name)] : path;
  });
};

/** `a.b.c` → `a`, `a.b`. */
const parents = (name: string): string[] => [...name.matchAll(/\./g)].map(({ index }) => name.slice(0, index));

/** A name without a dot. */
const fieldName = (name: string): string => (FIELDS.has(name) || name.startsWith('$') || name.includes('\0') ? suffixed(name) : name);

/** The name of a table's collection. */
export const collectionName = (name: string): string =>
  name === '' || /[$\0]/.test(name) || name.startsWith('system.') || Buffer.byteLength(name) > MAX_BYTES
    ? `t_${suffixed(name)}`.replace('t_system.', 't_system_')
    : name;
