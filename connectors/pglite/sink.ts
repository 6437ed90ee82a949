/** The connector `pglite`: a Postgres inside this process, its data in a directory. */
import type { Sink } from '../../src/pipeline/sink.ts';
import { SqlSink } from '../postgres/sql-sink.ts';
import type { PgliteOptions } from './options.ts';
import { openPgliteSession } from './pglite-session.ts';

export const createSink = (options: PgliteOptions): Sink =>
  new SqlSink({
    connect: () => openPgliteSession(options.dir),
    schema: 'public',
    label: `pglite ${options.dir}`,
  });
