/** What an operator reads of a sink that does not go on. */
import { describe, expect, it } from 'vitest';
import { formatStatus } from '../../src/cli/format-status.ts';
import type { SinkStatusNow, Status } from '../../src/cli/status.ts';

const NOW = Date.parse('2026-11-21T03:10:00Z');
const ERROR = {
  code: 'SINK_UNREACHABLE',
  message: 'postgres db:5432/reports: cannot be reached (ECONNREFUSED)',
  hint: 'Check that the server runs.',
  sinceMs: Date.parse('2026-11-21T00:10:00Z'),
  tries: 412,
  atMs: NOW - 10_000,
} as const;

const sink = (status: Partial<SinkStatusNow>): SinkStatusNow => ({
  name: 'reporting',
  state: 'retrying',
  checkpoint: null,
  applied: { changes: 0, transactions: 0, batches: 0 },
  lag: null,
  fill: null,
  error: ERROR,
  retryAtMs: NOW + 12_000,
  updatedAtMs: NOW,
  deadLetters: null,
  verification: null,
  ...status,
});

/** The lines about the sink, below the table. */
const told = (status: Partial<SinkStatusNow>, daemon: Partial<Status> = {}): string[] => {
  const text = formatStatus({ ...STATUS, ...daemon, sinks: [sink(status)] }, NOW);
  return text.split('\n').slice(text.split('\n').findIndex((line) => line.startsWith('SINK')) + 2);
};

const STATUS: Status = {
  running: true,
  pid: 1,
  state: '/state',
  hive: '/app.sqlite',
  logId: '',
  position: null,
  head: { seq: 0, txid: '' },
  firstSeq: 1,
  tables: 1,
  capture: null,
  paused: false,
  keeper: null,
  keeperRuns: false,
  keeperError: null,
  sinks: [],
};
const WHY = ['  postgres db:5432/reports: cannot be reached (ECONNREFUSED) [SINK_UNREACHABLE]', '  Check that the server runs.'];

describe('a sink that does not go on', () => {
  it.each([
    ['down since 2026-11-21T00:10:00Z (3 h), tried 412 times, the next time in 12 s', {}, {}],
    ['down since 2026-11-21T00:10:00Z (3 h), tried 412 times, the next time now', { retryAtMs: NOW - 1 }, {}],
    ['down since 2026-11-21T00:10:00Z (3 h), tried 412 times, and now again', { state: 'opening', retryAtMs: null }, {}],
    ['was down since 2026-11-21T00:10:00Z (3 h), tried 412 times; open again, nothing applied yet', { state: 'streaming', retryAtMs: null }, {}],
    ['stopped since 2026-11-21T00:10:00Z (3 h); tried again when the daemon is started again', { state: 'stopped', retryAtMs: null }, {}],
    ['stopped since 2026-11-21T00:10:00Z (3 h); tried again when the daemon is started again', { state: 'stopped' }, { running: false }],
    ['down since 2026-11-21T00:10:00Z (3 h); tried again when the daemon runs', { state: 'closed' }, { running: false }],
    ['down since 2026-11-21T00:10:00Z (3 h); tried again when the daemon runs', { state: 'retrying' }, { running: false }],
  ] as const)('%s', (first, status, daemon) => {
    expect(told(status, daemon)).toEqual(['', `reporting: ${first}`, ...WHY]);
  });

  it('of one that is well nothing is told', () => {
    expect(told({ state: 'streaming', error: null, retryAtMs: null })).toEqual([]);
  });
});
