/** Plain-text tables and the few statistics that the benchmarks need. */

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/** `median [lowest … highest]`. */
export const spread = (values: readonly number[], digits = 2): string =>
  `${median(values).toFixed(digits)} [${Math.min(...values).toFixed(digits)} … ${Math.max(...values).toFixed(digits)}]`;

/**
 * `median [from … to]`: the interval that holds the true median with 95 % (order statistics: how many values lie below a median is
 * binomial); of fewer than six values the lowest and the highest, which hold it with less.
 */
export const interval = (values: readonly number[], digits = 2): string => {
  const sorted = values.toSorted((a, b) => a - b);
  const n = sorted.length;
  let outside = 0;
  let below = 2 * 0.5 ** n;
  let place = 0;
  for (let k = 0; outside + below <= 0.05; k += 1) {
    outside += below;
    place = k;
    below *= (n - k) / (k + 1);
  }
  return `${median(sorted).toFixed(digits)} [${sorted[place]!.toFixed(digits)} … ${sorted[n - 1 - place]!.toFixed(digits)}]`;
};

export const thousands = (value: number): string =>
  value >= 1e6 ? `${(value / 1e6).toFixed(2)} M` : value >= 1e4 ? `${Math.round(value / 1e3)} k` : value.toFixed(0);

export const megabytes = (bytes: number): string => `${(bytes / 1048576).toFixed(1)} MB`;

export const table = (rows: readonly (readonly string[])[]): string => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]): string => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(rows[0]!), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.slice(1).map(line)].join('\n');
};
