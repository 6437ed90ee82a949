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

const columns = z.strictObject({
  include: names().optional().describe('Only these columns. `*` stands for any characters.'),
  exclude: names().optional().describe('Not these columns; wins over include. `*` stands for any characters.'),
  rename: z.record(z.string(), z.string().min(1)).optional().describe('New names, by the name in the hive.'),
  add: z
    .record(z.string().min(1), z.union([z.string(), z.number(), z.boolean(), z.null()]))
    .optional()
    .describe(
      'Further columns, by their name: a constant, or `$seq`, `$txid`, `$ts` (commit time), `$op` (c, u, d, r) of the last change, or `$hive`. A text that begins with `$` is written `$$…`.',
    ),
  types: z
    .record(z.string().min(1), z.enum(['timestamptz', 'boolean', 'json']))
    .optional()
    .describe(
      'Types, by the name in the hive (`*` stands for any characters): timestamptz from date text, boolean from 0 and 1, json from JSON text. A target that has such a type uses it. What does not convert is a refused row.',
    ),
  mask: z
    .record(z.string().min(1), z.union([z.enum(['hash', 'redact']), z.strictObject({ truncate: z.int().min(0) })]))
    .optional()
    .describe(
      'Values that the target does not get as they are, by the name in the hive (`*` stands for any characters). hash: HMAC-SHA256 with `mask_key`, in hex. redact: `[redacted]`. truncate: so many characters. NULL stays NULL.',
    ),
});

const table = z.strictObject({
  to: z.string().min(1).optional().describe("The table's name in the target; `*` stands for its name in the hive."),
  columns: columns.optional(),
  key: names().min(1).optional().describe('Columns that tell the rows in the target, instead of the declared key. They must be unique and not NULL.'),
  where: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Only rows for which this CEL expression is true. Columns are variables, or row["a.name"]; the values are the hive\'s own (booleans are 0 and 1). A row that stops being one of them is deleted in the target.',
    ),
  deleted: z
    .enum(['hard', 'soft'])
    .optional()
    .describe('hard (default): a deleted row is deleted in the target. soft: it stays, with the time in the column `deleted_at`.'),
  history: z
    .boolean()
    .optional()
    .describe(
      'true: every change is added as a row of its own, with the columns `waggle_seq`, `waggle_op` and `waggle_ts` before the others; nothing is updated or deleted.',
    ),
});

/** What every sink takes, whatever its type. */
export const sinkCommonSchema = z.strictObject({
  enabled: z.boolean().default(true).describe('false: the sink is left alone, and the log is not kept for it.'),
  fill: z.boolean().default(true).describe('Start with the rows that exist; false: only what changes from now on.'),
  tables: tables
    .catchall(table)
    .optional()
    .describe(
      'Options by the name of the table in the hive (`*` stands for any characters; the full name wins); include and exclude choose which tables the sink gets.',
    ),
  mask_key: z
    .string()
    .min(16)
    .optional()
    .describe('Key of the mask `hash`. Keep it out of the file: ${WAGGLE_MASK_KEY}. Another key gives other hashes.'),
  transform: z
    .strictObject({
      module: z.string().min(1).describe('JavaScript or TypeScript file, relative to this one, with `export default (row, { table, op }) => …`.'),
      timeout: duration().default('1s').describe('How long it may take for one row.'),
    })
    .optional()
    .describe(
      'A function of your own for each row, run in a thread of its own: it gives an object of the columns that it changes, or null for a row that the target does not get.',
    ),
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
      rows: z
        .int()
        .min(1)
        .max(100_000)
        .optional()
        .describe(
          'Changes in a batch at most (a transaction is never split). Default 20000; 5000 for mongodb, whose server keeps a transaction in memory, and for a webhook, which gets a batch that was broken off again.',
        ),
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
