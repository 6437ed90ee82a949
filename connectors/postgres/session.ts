/** What the SQL of this folder needs from a connection. Implemented over `pg` here and over PGlite in `../pglite`. */

/** All results are asked for as text (`::text`), so that every driver gives the same. */
export type ResultRow = Readonly<Record<string, string | null>>;

export interface Session {
  /** One statement with parameters in their text form. `name`: the server keeps the prepared statement under it. */
  query(sql: string, parameters: readonly (string | null)[], name?: string): Promise<ResultRow[]>;
  /** Several statements without parameters, in one round trip. Gives the rows of the last one that has any. */
  script(sql: string): Promise<ResultRow[]>;
  /**
   * A script of which one statement is a COPY … FROM STDIN, with what that reads. Left out where it is slower than statements with parameters.
   */
  copy?(sql: string, text: string): Promise<void>;
  /** Ends an open transaction without a commit. Never throws. */
  close(): Promise<void>;
}
