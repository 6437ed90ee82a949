/** Whole payloads, put together from a cell's local part and its overflow chain. */
import { PageCorruption, readU32, type TableCell } from './btree-page.ts';

/** Gives the image of a page; the buffer need stay valid only until the next call. */
export type ReadPage = (pageNumber: number) => Buffer;

/**
 * The payload of a parsed cell. Without overflow a view of `page`; else a new buffer. `visit` sees each page of the chain.
 * Throws a PageCorruption on a chain that ends early, or goes on for longer than the payload.
 */
export const readPayload = (page: Buffer, cell: TableCell, usableSize: number, readPage: ReadPage): Buffer => {
  const { localOffset, localBytes, payloadBytes } = cell;
  if (payloadBytes === localBytes) return page.subarray(localOffset, localOffset + localBytes);
  const payload = Buffer.allocUnsafe(payloadBytes);
  page.copy(payload, 0, localOffset, localOffset + localBytes);
  let filled = localBytes;
  let next = cell.readOverflow(page);
  while (filled < payloadBytes) {
    if (next === 0) throw new PageCorruption('overflow chain ends before its payload');
    const overflow = readPage(next);
    const take = Math.min(usableSize - 4, payloadBytes - filled);
    overflow.copy(payload, filled, 4, 4 + take);
    filled += take;
    next = readU32(overflow, 0);
  }
  return payload;
};

/** Calls `visit` for each page of a cell's overflow chain, in order. The cell must have been parsed from `page`. */
export const forEachOverflowPage = (page: Buffer, cell: TableCell, usableSize: number, readPage: ReadPage, visit: (pageNumber: number) => void): void => {
  let left = cell.payloadBytes - cell.localBytes;
  let next = left > 0 ? cell.readOverflow(page) : 0;
  while (left > 0) {
    if (next === 0) throw new PageCorruption('overflow chain ends before its payload');
    visit(next);
    left -= usableSize - 4;
    if (left > 0) next = readU32(readPage(next), 0);
  }
};
