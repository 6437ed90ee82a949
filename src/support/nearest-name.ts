/** The known name that a mistyped one most likely means. */

/** Null where no name is near: more than a third of the letters of the longer one would have to change. */
export const nearestName = (typed: string, names: readonly string[]): string | null => {
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const distance = editDistance(typed.toLowerCase(), name.toLowerCase());
    const near = distance <= Math.floor(Math.max(typed.length, name.length) / 3);
    if (near && distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
};

const LISTED = 20;

/** `; did you mean `x`?`, or the list of what there is. For the end of a message. */
export const suggestion = (typed: string, names: readonly string[]): string => {
  const nearest = nearestName(typed, names);
  if (nearest !== null) return `; did you mean \`${nearest}\`?`;
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : '';
  return ` (known: ${names.slice(0, LISTED).join(', ')}${more})`;
};

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
const editDistance = (a: string, b: string): number => {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let distance = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) distance = Math.min(distance, rows[i - 2]![j - 2]! + 1);
      row.push(distance);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
};
