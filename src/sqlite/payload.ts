/** Whole payloads, put together from a cell's local part and its overflow chain. */
import { PageCorruption, readU32, type PayloadCell } from './btree-page.ts';

/** Gives the image of a page; the buffer need stay valid only until the next call. */
export type ReadPage = (pageNumber: number) => Buffer;

/** Above this size the chain is walked before memory is taken: a flipped bit can make any payload one of 2 GB. */
const TRUSTED_BYTES = 16 * 1024 * 1024;

/**
 * The payload of a parsed cell. Without overflow a view of `page`; else a new buffer. The cell must have been parsed
 * from `page`, whose buffer must outlive calls of `readPage`.
 * Throws a PageCorruption on a chain that ends early or runs in a circle. What follows the payload's last page is not looked at.
 */
export const readPayload = (page: Buffer, cell: PayloadCell, usableSize: number, readPage: ReadPage): Buffer => {
  const { localOffset, localBytes, payloadBytes } = cell;
  if (payloadBytes === localBytes) return page.subarray(localOffset, localOffset + localBytes);
  if (payloadBytes > TRUSTED_BYTES) forEachOverflowPage(page, cell, usableSize, readPage, () => {});
  const payload = Buffer.allocUnsafe(payloadBytes);
  page.copy(payload, 0, localOffset, localOffset + localBytes);
  let filled = localBytes;
  let next = cell.readOverflow(page);
  const circle = new CircleGuard();
  while (filled < payloadBytes) {
    if (next === 0) throw new PageCorruption('overflow chain ends before its payload');
    circle.pass(next);
    const overflow = readPage(next);
    const take = Math.min(usableSize - 4, payloadBytes - filled);
    overflow.copy(payload, filled, 4, 4 + take);
    filled += take;
    next = readU32(overflow, 0);
  }
  return payload;
};

/** Calls `visit` for each page of a cell's overflow chain, in order. The same conditions and errors as `readPayload`. */
export const forEachOverflowPage = (
  page: Buffer,
  cell: PayloadCell,
  usableSize: number,
  readPage: ReadPage,
  visit: (pageNumber: number) => void,
): void => {
  let left = cell.payloadBytes - cell.localBytes;
  let next = left > 0 ? cell.readOverflow(page) : 0;
  const circle = new CircleGuard();
  while (left > 0) {
    if (next === 0) throw new PageCorruption('overflow chain ends before its payload');
    circle.pass(next);
    visit(next);
    left -= usableSize - 4;
    if (left > 0) next = readU32(readPage(next), 0);
  }
};

/** Brent's: one page is remembered, for twice as many steps each time; a circle meets it. No memory, whatever the length. */
class CircleGuard {
  #remembered = 0;
  #steps = 0;
  #limit = 1;

  pass(page: number): void {
    if (page === this.#remembered) throw new PageCorruption(`overflow chain comes back to page ${page}`);
    this.#steps += 1;
    if (this.#steps < this.#limit) return;
    this.#remembered = page;
    this.#steps = 0;
    this.#limit *= 2;
  }
}
