/** The connector `postgres`: a PostgreSQL server (12 or newer, and what speaks its protocol) through `pg`. */
import type { Sink } from '../../src/pipeline/sink.ts';
import type { PostgresOptions } from './options.ts';
import { openPgSession } from './pg-session.ts';
import { SqlSink } from './sql-sink.ts';

export const createSink = (options: PostgresOptions): Sink =>
  new SqlSink({
    connect: (context) => openPgSession(options.url, context),
    schema: options.schema ?? null,
    label: labelOf(options.url),
    identify: true,
  });

/** Host, port and database of a connection URL: what may stand in messages and logs. */
const labelOf = (url: string): string => {
  if (!URL.canParse(url)) return 'postgres';
  const { hostname, port, pathname } = new URL(url);
  return `postgres ${hostname || 'localhost'}:${port || '5432'}${pathname}`;
};
