/** The configuration as the rest of the program sees it: complete, in base units, with absolute paths, frozen. */

export interface Config {
  /** The configuration file. */
  readonly path: string;
  /** Absolute path of the hive as written; `resolveHive` checks and resolves it. */
  readonly hive: string;
  /** Absolute path of the state directory. */
  readonly state: string;
  /** The hive's name in events. */
  readonly name: string;
  readonly durability: 'os' | 'fsync';
  readonly onGap: 'snapshot' | 'fail';
  readonly tables: { readonly include: readonly string[] | null; readonly exclude: readonly string[] };
  readonly maxWalBytes: number;
  readonly keeper: { readonly outlive: boolean; readonly spoolBytes: number; readonly patienceMs: number };
  readonly deleteAll: 'rows' | 'event';
  readonly retention: { readonly maxAgeMs: number; readonly maxBytes: number; readonly force: boolean };
  /** All of them, in the order of the file; also those that are not enabled. */
  readonly sinks: readonly SinkConfig[];
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' };
}

export interface SinkConfig {
  readonly name: string;
  readonly type: string;
  readonly enabled: boolean;
  readonly fill: boolean;
  /** Where it goes, for people; without secrets. */
  readonly target: string;
  /** What the connector's schema gave, with absolute paths. May hold secrets: never log it. */
  readonly options: object;
  readonly filter: { readonly include?: readonly string[]; readonly exclude?: readonly string[] };
  readonly tables: Readonly<Record<string, TableOptions>>;
  /** A secret: never log it. */
  readonly maskKey: string | null;
  /** `module`: absolute path. `place`: where it is named, for errors. */
  readonly transform: { readonly place: string; readonly module: string; readonly timeoutMs: number } | null;
  /** Where an option of the sink stands: file, line, column and full name. `path` begins below the sink's name. */
  readonly place: (path: readonly string[]) => string;
  /** Names the place whose tables the sink writes; null where its connector keeps none. */
  readonly tablesIn: string | null;
  /** Null: a refused row stops the sink. */
  readonly deadLetters: { readonly limit: number } | null;
  /** Null: the target is compared only when somebody asks. */
  readonly verifyEveryMs: number | null;
  /** `rows` left out: as many as the sink wants. */
  readonly batch: { readonly rows?: number; readonly delayMs: number };
}

/** As `table` of the schema has it. */
export interface TableOptions {
  readonly to?: string;
  readonly columns?: {
    readonly include?: readonly string[];
    readonly exclude?: readonly string[];
    readonly rename?: Readonly<Record<string, string>>;
    readonly add?: Readonly<Record<string, string | number | boolean | null>>;
    readonly types?: Readonly<Record<string, 'timestamptz' | 'boolean' | 'json'>>;
    readonly mask?: Readonly<Record<string, 'hash' | 'redact' | { readonly truncate: number }>>;
  };
  readonly key?: readonly string[];
  readonly where?: string;
  readonly deleted?: 'hard' | 'soft';
  readonly history?: boolean;
}
