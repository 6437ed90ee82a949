import Database from 'better-sqlite3';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Checkpointer, Pin } from '../../src/keeper/connections.ts';
import { HiveFiles } from '../../src/keeper/hive-files.ts';
import { Ledger } from '../../src/keeper/ledger.ts';
import { PinPair } from '../../src/keeper/pin-pair.ts';
import type { WalIndexHeader } from '../../src/sqlite/wal-index.ts';

// Everything in one process here, so that a commit can be put between any two steps; SQLite shares its locks between
// the connections of a process. The raw descriptors of HiveFiles are never closed.
let dir: string;
let writer: Database.Database;
let checkpointer: Checkpointer;
let files: HiveFiles;
let ledger: Ledger;
let pins: PinPair;
let connections: [Pin, Pin];
let safe: number;
/** Runs before the n-th next header is read. */
let between: (() => void)[];
let ended: [number, number][];

const header = (): WalIndexHeader => {
  const state = files.readHeader();
  if (typeof state !== 'object') throw new Error(state);
  return state;
};
const commit = (): void => void writer.exec('INSERT INTO t VALUES (1)');

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'waggle-pins-'));
  const path = join(dir, 'hive.db');
  writer = new Database(path);
  writer.pragma('journal_mode = WAL');
  writer.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1)');
  files = HiveFiles.open(path);
  files.openSideFiles();
  checkpointer = new Checkpointer(path, (error) => {
    throw error;
  });
  connections = [new Pin(path), new Pin(path)];
  safe = 0;
  between = [];
  ended = [];
  const before = header();
  connections[0].begin();
  ledger = new Ledger(before, null, { ended: (generation, lastFrame) => ended.push([generation, lastFrame]), begun: () => {} });
  const observe = (): WalIndexHeader => {
    between.shift()?.();
    const now = header();
    ledger.observe(now);
    return now;
  };
  pins = new PinPair({ pins: connections, ledger, observe, safe: () => safe }, before, header());
});

afterEach(() => {
  for (const pin of connections) {
    pin.end();
    pin.close();
  }
  checkpointer.close();
  writer.close();
  rmSync(dir, { recursive: true });
});

test('does not go to slot 0 before the frames are safe, and the old pin holds the WAL', () => {
  checkpointer.passive();
  const { mxFrame, salt1 } = header();
  expect(header().backfill).toBe(mxFrame);
  safe = mxFrame - 1;
  expect(pins.move()).toBe('undrained');
  commit();
  commit();
  expect(header()).toMatchObject({ salt1, mxFrame: mxFrame + 2 });
});

test('on slot 0 with all frames safe the next writer resets the WAL, once', () => {
  checkpointer.passive();
  safe = header().mxFrame;
  expect(pins.move()).toBe('moved');
  expect(pins.slot).toBe('zero');
  commit();
  ledger.observe(header());
  expect(ended).toEqual([[1, safe]]);
  const { salt1 } = header();
  checkpointer.passive();
  for (let count = 0; count < 5; count++) commit();
  expect(header()).toMatchObject({ salt1, mxFrame: 6, backfill: 0 });
  expect(pins.move()).toBe('moved');
  expect(pins.slot).toBe('mark');
});

test('a commit between the first header and the pin makes it a mark, which needs nothing drained', () => {
  checkpointer.passive();
  safe = header().mxFrame;
  const { salt1 } = header();
  between = [() => {}, commit];
  // The pin lands on slot 0 here; then comes a commit that the old pin keeps from resetting the WAL.
  expect(pins.move()).toBe('moved');
  expect(pins.slot).toBe('unknown');
  commit();
  checkpointer.passive();
  commit();
  expect(header()).toMatchObject({ salt1, mxFrame: safe + 3 });
  ledger.observe(header());
  expect(ended).toEqual([]);
  expect(pins.move()).toBe('moved');
  expect(pins.slot).toBe('mark');
});

test('a frame that came in between is asked for when the pin may be on slot 0', () => {
  checkpointer.passive();
  safe = header().mxFrame;
  // All backfilled again by the time of the pin, with a frame that nobody drained.
  between = [
    () => {
      commit();
      expect(pins.move()).toBe('moved');
      checkpointer.passive();
    },
  ];
  expect(pins.move()).toBe('undrained');
  expect(pins.slot).toBe('mark');
});

test('a reset that no armed pin allowed is PIN_LOST', () => {
  checkpointer.passive();
  connections[0].end();
  commit();
  expect(() => ledger.observe(header())).toThrow(expect.objectContaining({ code: 'PIN_LOST' }));
});

test('an empty WAL may change its salts as often as it likes', () => {
  checkpointer.passive();
  safe = header().mxFrame;
  pins.move();
  checkpointer.truncate();
  ledger.observe(header());
  checkpointer.truncate();
  ledger.observe(header());
  expect(pins.move()).toBe('moved');
  commit();
  ledger.observe(header());
  expect(ended).toEqual([[1, safe]]);
  expect(ledger).toMatchObject({ generation: 2, lastFrame: 1 });
});
