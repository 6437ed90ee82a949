/**
 * The kinds of targets, by the `type` of a sink in the configuration. Options are checked without loading the
 * connector; its code (and PGlite's 500 MB) is loaded when a sink of it is made.
 */
import type { z } from 'zod';
import type { Sink } from '../src/pipeline/sink.ts';
import { options as jsonl } from './jsonl/options.ts';
import { brokerList, options as kafka, withPaths as withKafkaPaths } from './kafka/options.ts';
import { databaseOf as mongodbDatabase, options as mongodb } from './mongodb/options.ts';
import { databaseOf as mysqlDatabase, options as mysql } from './mysql/options.ts';
import { options as pglite } from './pglite/options.ts';
import { hostPlace, postgresPlace, urlPlace } from './place.ts';
import { options as postgres } from './postgres/options.ts';
import { options as sqlite } from './sqlite/options.ts';
import { options as webhook } from './webhook/options.ts';

export interface Connector {
  /** The connector's own options, without `type`, `tables`, `batch`, `fill`. An object schema, strict. */
  readonly options: z.ZodType<object>;
  /** Options that are paths, relative to the configuration file. */
  readonly paths: readonly string[];
  /** Makes paths inside of options absolute, of files that are only read; null: there are none. */
  readonly withPaths: ((options: object, absolute: (path: string) => string) => object) | null;
  /** Options that can hold secrets: never to be shown. */
  readonly secrets: readonly string[];
  /** Where it goes, for people, where a path or the host and path of a URL would tell too much. */
  readonly describe: ((options: object) => string) | null;
  /** Names the place of its tables, without secrets: two sinks must not write one table. Null: it keeps none, or its path tells. */
  readonly tablesIn: ((options: object) => string) | null;
  /** Loads the code. `createSink` wants what `options` gave, with absolute paths. */
  load(): Promise<CreateSink>;
}

export type CreateSink = (options: object) => Sink;

/** Binds a connector's options and its factory: what its schema gave is what its factory gets. */
const connector = <T extends object>(entry: {
  readonly options: z.ZodType<T>;
  readonly paths?: readonly (keyof T & string)[];
  readonly withPaths?: (options: T, absolute: (path: string) => string) => T;
  readonly secrets?: readonly (keyof T & string)[];
  readonly describe?: (options: T) => string;
  readonly tablesIn?: (options: T) => string;
  readonly load: () => Promise<{ readonly createSink: (options: T) => Sink }>;
}): Connector => ({
  options: entry.options,
  paths: entry.paths ?? [],
  withPaths: (entry.withPaths as Connector['withPaths'] | undefined) ?? null,
  secrets: entry.secrets ?? [],
  tablesIn: (entry.tablesIn as Connector['tablesIn'] | undefined) ?? null,
  describe: (entry.describe as Connector['describe'] | undefined) ?? null,
  load: async () => (await entry.load()).createSink as CreateSink,
});

/** The path of a webhook may hold its token. */
const hostOf = ({ url }: { readonly url: string }): string => new URL(url).host;

export const CONNECTORS: Readonly<Record<string, Connector>> = {
  jsonl: connector({ options: jsonl, paths: ['file'], load: () => import('./jsonl/sink.ts') }),
  kafka: connector({
    options: kafka,
    withPaths: withKafkaPaths,
    secrets: ['sasl'],
    describe: (options) => [brokerList(options).join(','), options.topic ?? options.prefix ?? ''].join(' ').trim(),
    tablesIn: (options) => [...brokerList(options).toSorted(), options.topic ?? options.prefix ?? ''].join(' '),
    load: () => import('./kafka/sink.ts'),
  }),
  mongodb: connector({
    options: mongodb,
    secrets: ['url'],
    tablesIn: (options) => urlPlace(options.url, { database: mongodbDatabase(options) ?? '', defaultPort: 27_017 }),
    load: () => import('./mongodb/sink.ts'),
  }),
  mysql: connector({
    options: mysql,
    secrets: ['url', 'password'],
    tablesIn: (options) =>
      options.url === undefined
        ? `${hostPlace(options.host ?? '', options.port, 3306)}/${options.database}`
        : urlPlace(options.url, { database: mysqlDatabase(options) ?? '', defaultPort: 3306 }),
    load: () => import('./mysql/sink.ts'),
  }),
  pglite: connector({ options: pglite, paths: ['dir'], load: () => import('./pglite/sink.ts') }),
  postgres: connector({ options: postgres, secrets: ['url'], tablesIn: postgresPlace, load: () => import('./postgres/sink.ts') }),
  sqlite: connector({ options: sqlite, paths: ['file'], load: () => import('./sqlite/sink.ts') }),
  webhook: connector({ options: webhook, secrets: ['url', 'secret', 'headers'], describe: hostOf, load: () => import('./webhook/sink.ts') }),
};
