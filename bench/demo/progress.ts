/** One line a step, with the time since the start. */
const started = performance.now();

export const secondsSoFar = (): number => (performance.now() - started) / 1000;

export const say = (text: string): void => {
  console.log(`[${secondsSoFar().toFixed(1).padStart(5)} s] ${text}`);
};

/** A table of two columns, aligned. */
export const printTable = (rows: readonly (readonly [string, string])[]): void => {
  const width = Math.max(...rows.map(([name]) => name.length));
  const rule = '─'.repeat(width + 2);
  console.log(`\n┌${rule}${'─'.repeat(52)}`);
  for (const [name, value] of rows) console.log(`│ ${name.padEnd(width)}  ${value}`);
  console.log(`└${rule}${'─'.repeat(52)}\n`);
};

export const quantile = (values: readonly number[], q: number): number => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
};
