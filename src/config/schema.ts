/** The configuration as it is written, after substitution: what `resolve.ts` decodes and what the JSON Schema is made of. */
import { z } from 'zod';
import { DURATION_PATTERN, SIZE_PATTERN } from '../support/units.ts';

const duration = (): z.ZodString => text('must be a duration like 50ms, 10s or 1h', DURATION_PATTERN);
const size = (): z.ZodString => text('must be a size like 16MB or 64KiB', SIZE_PATTERN);
const text = (error: string, pattern: RegExp): z.ZodString => z.string({ error }).regex(pattern, { error });
const names = (): z.ZodArray<z.ZodString> => z.array(z.string().min(1));

const tables = z.strictObject({
  include: names().optional().describe('Only these tables. `*` stands for any characters.'),
  exclude: names().optional().describe('Not these tables; wins over include. `*` stands for any characters.'),
});

const table = z.strictObject({
  to: z.string().min(1).optional().describe("The table's name in the target."),
  columns: z
    .strictObject({
      exclude: names().optional().describe('Columns that the target does not get.'),
      rename: z.record(z.string(), z.string().min(1)).optional().describe('New names, by the name in the hive.'),
    })
    .optional(),
});

/** What every sink takes, whatever its type. */
export const sinkCommonSchema = z.strictObject({
  enabled: z.boolean().default(true).describe('false: the sink is left alone, and the log is not kept for it.'),
  fill: z.boolean().default(true).describe('Start with the rows that exist; false: only what changes from now on.'),
  tables: tables
    .catchall(table)
    .optional()
    .describe('Options by the name of the table in the hive; include and exclude choose which tables the sink gets.'),
  on_error: z
    .enum(['dead_letter', 'stop'])
    .default('dead_letter')
    .describe('A row that the target refuses: dead_letter keeps it aside (`waggle dead-letters`) and goes on with the others, stop stops the sink.'),
  dead_letters: z
    .strictObject({
      limit: z.int().min(1).default(100).describe('So many dead letters at most: with the next one the sink stops.'),
    })
    .prefault({}),
  verify: z
    .strictObject({
      every: duration().describe('How often the target is compared with the hive in the background; the result stands in `waggle status`.'),
    })
    .optional(),
  batch: z
    .strictObject({
      rows: z.int().min(1).max(100_000).default(5000).describe('Changes in a batch at most (a transaction is never split).'),
      delay: duration().default('5ms').describe('Least time between two batches that are not full.'),
    })
    .prefault({}),
});

/** The connector's own options are checked by the connector's own schema (`connectors/registry.ts`). */
const sink = z.looseObject({ type: z.string() });

export const configSchema = z.strictObject({
  hive: z.string().min(1).describe('The SQLite database file to capture, relative to this file.'),
  state: z.string().min(1).default('.waggle').describe("Waggle's own directory for the log, the mirror and the position. One for each hive."),
  name: z.string().min(1).optional().describe("The hive's name in events. Default: Blade's database id, else the file's name."),
  durability: z
    .enum(['os', 'fsync'])
    .default('os')
    .describe('os: survives the kill of any process. fsync: survives a power loss, too, before anybody sees a change.'),
  on_gap: z
    .enum(['snapshot', 'fail'])
    .default('snapshot')
    .describe('What to do when the state directory no longer fits the hive: start again from a snapshot, or stop.'),
  capture: z
    .strictObject({
      max_wal: size().default('16MB').describe("Above this size of the hive's WAL a writer without pauses is held for some milliseconds."),
      delete_all: z
        .enum(['rows', 'event'])
        .default('rows')
        .describe('A transaction that leaves a table without rows: rows tells a d for each of them, event one t for all.'),
    })
    .prefault({}),
  keeper: z
    .strictObject({
      outlive: z.boolean().default(true).describe('The keeper goes on while the daemon is down, so that every transaction is found one by one.'),
      spool: size()
        .default('1GB')
        .describe('So much of what nobody has taken yet is copied aside at most; beyond it the keeper lets go of the hive.'),
      patience: duration().default('24h').describe('So long the keeper goes on without a daemon; then it lets go of the hive.'),
    })
    .prefault({}),
  retention: z
    .strictObject({
      age: duration().default('1d').describe('How long changes stay in the log at least.'),
      size: size().default('1GB').describe('Above this size of the log its oldest changes go, even if they are younger.'),
      force: z.boolean().default(false).describe('true: also past the slowest sink, which then starts again from a snapshot.'),
    })
    .prefault({}),
  tables: tables.prefault({}).describe('What is captured at all: tables left out here never reach the log.'),
  sinks: z
    .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, { error: 'a name of letters, digits, `_`, `-` and `.`' }), sink)
    .default({})
    .describe('Where changes go, by a name of your choice. The name is the key of the checkpoint: keep it.'),
  log: z.strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info') }).prefault({}),
});

export type RawConfig = z.infer<typeof configSchema>;
export type RawSinkCommon = z.infer<typeof sinkCommonSchema>;
export const SINK_COMMON_OPTIONS: readonly string[] = Object.keys(sinkCommonSchema.shape);
