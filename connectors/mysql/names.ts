/**
 * Names in MySQL. A name of the hive stands in the target exactly as it is, quoted, except where MySQL has none like it
 * (https://dev.mysql.com/doc/refman/8.4/en/identifiers.html): it then ends with `_` and 8 hex digits of its SHA-256, and so stays distinct.
 *
 *     longer than 64 characters                                  cut to 55
 *     empty, or with a space at its end                          as it is, with the suffix
 *     with U+0000 or a character above U+FFFF (emoji)            `_` in its place
 */
import { createHash } from 'node:crypto';

const MAX_LENGTH = 64;
// U+0000 and halves of surrogate pairs; a pair becomes two `_`.
const IMPOSSIBLE = /[\0\uD800-\uDFFF]/g;

export const targetName = (name: string): string => {
  const possible = name.replaceAll(IMPOSSIBLE, '_');
  if (possible === name && name !== '' && name.length <= MAX_LENGTH && !name.endsWith(' ')) return name;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${possible.slice(0, MAX_LENGTH - 9)}_${digest}`;
};

export const quoteName = (name: string): string => `\`${name.replaceAll('`', '``')}\``;

/** A string literal; the session takes backslashes as escapes. */
export const quoteLiteral = (text: string): string => `'${text.replaceAll(/[\\']/g, String.raw`\$&`).replaceAll('\0', String.raw`\0`)}'`;

/** Columns are found without regard to case, as MySQL does. */
export const sameColumn = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();
