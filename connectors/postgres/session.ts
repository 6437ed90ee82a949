/** What the SQL of this folder needs from a connection. Implemented over `pg` here and over PGlite in `../pglite`. */

/** All results are asked for as text (`::text`), so that every driver gives the same. */
export type ResultRow = Readonly<Record<string, string | null>>;

/** A statement under way. */
export interface Running {
  /** The server has all of it and works on it. Never rejects. */
  readonly sent: Promise<void>;
  readonly done: Promise<void>;
}

export interface Session {
  /** One statement with parameters in their text form. `name`: the server keeps the prepared statement under it. */
  query(sql: string, parameters: readonly (string | null)[], name?: string): Promise<ResultRow[]>;
  /** Several statements without parameters, in one round trip. Gives the rows of the last one that has any. */
  script(sql: string): Promise<ResultRow[]>;
  /** A script with a COPY in it; `source` says where that finds `text`. */
  copy(script: (source: string) => string, text: string): Running;
  /** Ends an open transaction without a commit. Never throws. */
  close(): Promise<void>;
}
