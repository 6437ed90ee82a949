/** How fast a first fill goes, and how long the rest of its table takes. */
import type { FillCursor } from './fill-cursor.ts';
import type { SinkStatus } from './sink-status.ts';

interface Mark {
  readonly atMs: number;
  readonly rows: number;
  readonly share: number;
}

/** Before that a rate says little. */
const MIN_SHARE = 0.01;

export class FillRate {
  #began: Mark | null = null;
  #table: (Mark & { readonly name: string }) | null = null;

  of(cursor: FillCursor | null, nowMs: number): SinkStatus['fill'] {
    if (cursor === null) return null;
    const { rows, share, total, tables } = cursor;
    const table = tables[0] ?? '';
    const mark = { atMs: nowMs, rows, share };
    this.#began ??= mark;
    if (this.#table?.name !== table || share < this.#table.share) this.#table = { ...mark, name: table };
    const seconds = (nowMs - this.#began.atMs) / 1000;
    const gained = share - this.#table.share;
    return {
      table,
      tablesDone: total - tables.length,
      tablesTotal: total,
      rows,
      share: Math.min(share, 0.99),
      rowsPerSecond: seconds <= 0 ? 0 : Math.round((rows - this.#began.rows) / seconds),
      secondsLeft: gained < MIN_SHARE ? null : (Math.max(0, 1 - share) / gained) * ((nowMs - this.#table.atMs) / 1000),
    };
  }
}
