/** What a configuration says about the form in which a sink gets its tables. Names are those of the hive unless it says otherwise. */

/** Names of options from the sink's own down: `['tables', 'accounts', 'where']`. */
export type OptionPath = readonly string[];

/** Which tables or columns; both left out: all. `exclude` wins. `*` stands for any characters. */
export interface NameFilter {
  readonly include?: readonly string[] | undefined;
  readonly exclude?: readonly string[] | undefined;
}

export type TypeOverride = 'timestamptz' | 'boolean' | 'json';

/** `hash`: keyed HMAC-SHA256. `redact`: a fixed text. `truncate`: so many characters of the text, bytes of a blob. NULL stays NULL. */
export type Mask = 'hash' | 'redact' | { readonly truncate: number };

/** A constant, or one of `$seq`, `$txid`, `$ts`, `$op` and `$hive`; a constant text that begins with `$` is written with two. */
export type AddedValue = string | number | boolean | null;

export interface ColumnOptions extends NameFilter {
  readonly rename?: Readonly<Record<string, string>> | undefined;
  /** By the name in the target. */
  readonly add?: Readonly<Record<string, AddedValue>> | undefined;
  /** By name; `*` stands for any characters, a full name wins. */
  readonly types?: Readonly<Record<string, TypeOverride>> | undefined;
  /** As `types`. */
  readonly mask?: Readonly<Record<string, Mask>> | undefined;
}

export interface TableOptions {
  /** Name in the target; `*` stands for the name in the hive. */
  readonly to?: string | undefined;
  readonly columns?: ColumnOptions | undefined;
  /** Columns that tell the rows in the target, instead of the declared key: of the hive, or added constants. Unique and not NULL is the user's word. */
  readonly key?: readonly string[] | undefined;
  /** A CEL expression over the hive's own values: rows for which it is true. */
  readonly where?: string | undefined;
  /** `soft`: a deleted row stays, with the time of its end in `deleted_at`. Default: hard. */
  readonly deleted?: 'hard' | 'soft' | undefined;
  /** Every change becomes a row of its own. */
  readonly history?: boolean | undefined;
}
