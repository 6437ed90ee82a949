/** Durations and sizes as people write them: `50ms`, `1h`, `16MB`, `64KiB`. */

const MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const BYTES = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30 } as const;

export const DURATION_PATTERN = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)$/;
export const SIZE_PATTERN = /^(\d+(?:\.\d+)?) ?(B|[kKMG]i?B)$/;

/** Milliseconds. NaN where the text is not a duration. */
export const parseDuration = (text: string): number => {
  const [, digits = '', unit = ''] = DURATION_PATTERN.exec(text) ?? [];
  return Number(digits) * (MS[unit as keyof typeof MS] ?? Number.NaN);
};

/** Bytes; `MB` is 10^6, `MiB` is 2^20. NaN where the text is not a size. */
export const parseSize = (text: string): number => {
  const [, digits = '', unit = ''] = SIZE_PATTERN.exec(text) ?? [];
  return Math.round(Number(digits) * (BYTES[unit.toLowerCase() as keyof typeof BYTES] ?? Number.NaN));
};

/** For people: `3.2 MB`. */
export const formatSize = (bytes: number): string => {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${power === 0 ? bytes : (bytes / 1000 ** power).toFixed(1)} ${units[power]}`;
};

/** For people: `3 h`. */
export const formatDuration = (durationMs: number): string => {
  const units: [string, number][] = [
    ['d', MS.d],
    ['h', MS.h],
    ['min', MS.m],
    ['s', MS.s],
  ];
  // A unit is used from twice its size on: `90 min` says more than `1 h`.
  const [unit, sizeMs] = units.find(([, size]) => durationMs >= 2 * size) ?? ['s', MS.s];
  return `${Math.round(durationMs / sizeMs)} ${unit}`;
};
