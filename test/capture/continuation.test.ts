/** Whether the frames behind a saved position can be had one by one, from what keepers left behind and the WAL of now. */
import { describe, expect, it } from 'vitest';
import { findContinuation, type Ready } from '../../src/capture/continuation.ts';
import type { Position } from '../../src/change/change.ts';
import type { StartNote } from '../../src/keeper/protocol.ts';
import type { SpoolSegment } from '../../src/keeper/spool.ts';

const A = { salt1: 1, salt2: 10 };
const B = { salt1: 2, salt2: 20 };
const C = { salt1: 3, salt2: 30 };
type Salts = typeof A;

const at = (salts: Salts, frame: number): Position => ({ epoch: 5, frame, ...salts, checksum1: frame, checksum2: frame });

let serial = 0;
const segment = (salts: Salts, firstFrame: number, lastFrame: number, previous: (Salts & { lastFrame: number }) | null = null): SpoolSegment => ({
  path: `${salts.salt1}:${firstFrame}-${lastFrame}`,
  serial: (serial += 1),
  pageSize: 4096,
  bigEndianChecksums: false,
  firstFrame,
  lastFrame,
  ...salts,
  // As the position's: the running checksum of the frame before.
  before: { checksum1: firstFrame - 1, checksum2: firstFrame - 1 },
  previous,
});

const ready = (salts: Salts, mxFrame: number, parts: Partial<Ready> = {}): Ready => ({
  type: 'ready',
  pid: 1,
  keeper: 'k',
  number: 1,
  taken: null,
  print: null,
  ...salts,
  mxFrame,
  complete: false,
  proven: true,
  leftover: [],
  previous: null,
  ...parts,
});

/** `first generation | frames in the spool | ended generations`. */
const text = (position: Position, found: Ready, note: StartNote | null = null): string | null => {
  // The keeper found the position's frame in the WAL, unless the case says otherwise.
  const { checksum1, checksum2 } = position;
  const result = findContinuation(position, found.taken === null ? { ...found, taken: { checksum1, checksum2 } } : found, note);
  if (result === null) return null;
  const spooled = result.spooled.map((frames) => `${frames.generation}=${frames.path}`);
  const earlier = result.earlier.map((entry) => `${entry.generation}=${entry.salt1}..${entry.lastFrame}`);
  return `${result.generation} | ${spooled.join(' ')} | ${earlier.join(' ')}`;
};

describe('findContinuation', () => {
  it.each<[string, Position, Ready, string | null]>([
    ['the same generation, further on', at(A, 7), ready(A, 9), '1 |  | '],
    ['nothing new', at(A, 7), ready(A, 7), '1 |  | '],
    ['the WAL went back (a power loss)', at(A, 7), ready(A, 6), null],
    ['the keeper lost frames', at(A, 7), ready(A, 9, { proven: false }), null],
    ['another generation, unproven', at(A, 7), ready(B, 3), null],
    ['the next generation, proven', at(A, 7), ready(B, 3, { previous: { ...A, lastFrame: 7 } }), '0 |  | 0=1..7'],
    ['the next generation is still empty', at(A, 7), ready({ salt1: 0, salt2: 0 }, 0, { previous: { ...A, lastFrame: 7 } }), '0 |  | 0=1..7'],
    ['the one before ended further on than the position', at(A, 6), ready(B, 3, { previous: { ...A, lastFrame: 7 } }), null],
    [
      'the rest of a generation lies in the spool',
      at(A, 4),
      ready(B, 3, { leftover: [segment(A, 5, 7)], previous: { ...A, lastFrame: 7 } }),
      '0 | 0=1:5-7 | 0=1..7',
    ],
    ['a segment that was taken already is passed over', at(A, 4), ready(A, 9, { leftover: [segment(A, 1, 4)] }), '1 |  | '],
    ['a segment of which a part was taken', at(A, 4), ready(A, 9, { leftover: [segment(A, 3, 8)] }), '1 | 1=1:3-8 | '],
    ['a hole in the spool', at(A, 4), ready(A, 9, { leftover: [segment(A, 6, 8)] }), null],
    ['two segments of one generation', at(A, 4), ready(A, 12, { leftover: [segment(A, 5, 8), segment(A, 9, 10)] }), '1 | 1=1:5-8 1=1:9-10 | '],
    [
      'a whole generation in between lies in the spool',
      at(A, 7),
      ready(C, 2, { leftover: [segment(B, 1, 5, { ...A, lastFrame: 7 })], previous: { ...B, lastFrame: 5 } }),
      '-1 | 0=2:1-5 | -1=1..7 0=2..5',
    ],
    [
      'the rest of one, a whole one, and the next',
      at(A, 6),
      ready(C, 2, { leftover: [segment(A, 7, 7), segment(B, 1, 5, { ...A, lastFrame: 7 })], previous: { ...B, lastFrame: 5 } }),
      '-1 | -1=1:7-7 0=2:1-5 | -1=1..7 0=2..5',
    ],
    [
      'the generation in between does not begin at frame 1',
      at(A, 7),
      ready(C, 2, { leftover: [segment(B, 2, 5, { ...A, lastFrame: 7 })], previous: { ...B, lastFrame: 5 } }),
      null,
    ],
    ['a generation in between is missing', at(A, 7), ready(C, 2, { leftover: [], previous: { ...B, lastFrame: 5 } }), null],
    ['segments of an older history are passed over', at(B, 2), ready(B, 3, { leftover: [segment(A, 1, 9)] }), '1 |  | '],
    ['the spool is further on than the WAL', at(A, 4), ready(A, 6, { leftover: [segment(A, 5, 8)] }), null],
    ['a position before any frame', at({ salt1: 0, salt2: 0 }, 0), ready(A, 4), null],
  ])('%s', (_, position, found, expected) => {
    expect(text(position, found)).toBe(expected);
  });

  it('salts that came back with another history: the running checksum tells', () => {
    const other = { ...segment(A, 5, 8), before: { checksum1: 99, checksum2: 99 } };
    expect(text(at(A, 4), ready(A, 9, { leftover: [other] }))).toBeNull();
    expect(text(at(A, 4), ready(A, 9, { taken: { checksum1: 99, checksum2: 99 } }))).toBeNull();
    expect(findContinuation(at(A, 4), ready(A, 9), null)).toBeNull();
  });

  const PRINT = { sizeBytes: 4096, modified: '1' };
  const start = at({ salt1: 0, salt2: 0 }, 0);
  const own = (generation: number): StartNote => ({ keeper: 'k', generation, print: null });
  const other: StartNote = { keeper: 'another', generation: 7, print: PRINT };
  it.each<[string, Ready, StartNote, string | null]>([
    ['the same keeper, nothing yet', ready(A, 0, { number: 3 }), own(3), '1 |  | '],
    ['the same keeper, and frames', ready(A, 4, { number: 3 }), own(3), '1 |  | '],
    ['… of which some are in the spool', ready(A, 4, { number: 3, leftover: [segment(A, 1, 2)] }), own(3), '1 | 1=1:1-2 | '],
    [
      'the same keeper, a generation later',
      ready(B, 4, { number: 4, leftover: [segment(A, 1, 2)], previous: { ...A, lastFrame: 2 } }),
      own(3),
      '0 | 0=1:1-2 | 0=1..2',
    ],
    ['a generation in between is missing', ready(B, 4, { number: 5, leftover: [segment(A, 1, 2)], previous: { ...A, lastFrame: 2 } }), own(3), null],
    ['its first frames are missing', ready(B, 4, { number: 4, leftover: [segment(A, 2, 2)], previous: { ...A, lastFrame: 2 } }), own(3), null],
    ['the spool was emptied', ready(B, 4, { number: 4, previous: { ...A, lastFrame: 2 } }), own(3), null],
    ['a generation that has not begun', ready(A, 4, { number: 2 }), own(3), null],
    ['another keeper, the file as it was', ready(A, 4, { print: PRINT }), other, '1 |  | '],
    ['another keeper, the file as it was, nothing yet', ready(A, 0, { print: PRINT }), other, '1 |  | '],
    ['another keeper, the file was written since', ready(A, 4, { print: { ...PRINT, modified: '2' } }), other, null],
    ['another keeper, the file was just written', ready(A, 4), { ...other, print: null }, null],
  ])('a position before any frame: %s', (_, found, note, expected) => {
    expect(text(start, found, note)).toBe(expected);
  });
});
