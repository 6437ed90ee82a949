/** Names as SQLite compares them: ASCII letters without case. `*` in a pattern stands for any characters. */
import type { NameFilter } from './options.ts';

export const fold = (name: string): string => name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

export const isPattern = (name: string): boolean => name.includes('*');

export const matchesName = (pattern: string, name: string): boolean =>
  isPattern(pattern)
    ? new RegExp(
        `^${fold(pattern)
          .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
          .replaceAll('*', '.*')}$`,
        's',
      ).test(fold(name))
    : fold(pattern) === fold(name);

export const passesFilter = ({ include, exclude }: NameFilter, name: string): boolean =>
  (include === undefined || include.some((pattern) => matchesName(pattern, name))) && !(exclude ?? []).some((pattern) => matchesName(pattern, name));

/** The entry of a name: that of the full name, else that of the first pattern that fits. */
export const entryFor = <T>(entries: Readonly<Record<string, T>> | undefined, name: string): T | undefined => entries?.[keyFor(entries, name)];

/** The key of a name's entry; where it has none, the name. */
export const keyFor = (entries: Readonly<Record<string, unknown>> | undefined, name: string): string => {
  const keys = Object.keys(entries ?? {});
  return keys.find((key) => fold(key) === fold(name)) ?? keys.find((key) => matchesName(key, name)) ?? name;
};
