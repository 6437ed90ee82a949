/** `waggle init`: finds the hive and writes a commented configuration that works as it is. */
import { existsSync, globSync, writeFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { resolveHive } from '../hive/hive-file.ts';
import { systemErrorCode, WaggleError } from '../support/errors.ts';

interface InitOptions {
  readonly config: string;
  readonly force?: boolean;
}

export const initCommand = (): Command =>
  new Command('init')
    .description('Find the SQLite database here (Blade keeps it at .blade/state/databases/<id>/db.sqlite) and write waggle.yaml.')
    .argument('[file]', 'the SQLite database, where it cannot be found or is not the only one')
    .option('-c, --config <file>', 'the configuration to write', 'waggle.yaml')
    .option('--force', 'overwrite it')
    .option('--verbose', 'show the trace of an error')
    .action(init);

const init = (file: string | undefined, options: InitOptions): void => {
  if (existsSync(options.config) && options.force !== true) throw new WaggleError('FILE_EXISTS', `${options.config} is there already`);
  const hive = file ?? findHive();
  const fault = faultOf(hive);
  const next = fault?.code === 'HIVE_NOT_WAL' ? 'waggle run --enable-wal' : 'waggle run';
  const directory = dirname(resolve(options.config));
  writeConfig(options.config, configText(relative(directory, resolve(hive)), schemaPath(directory)));
  process.stdout.write(`Wrote ${options.config}: captures ${hive} and appends every change to changes.jsonl.

Next:
  ${next.padEnd(25)} what is captured, and where it goes, is in ${options.config}
  waggle doctor ${hive}
Keep .waggle (the state) and changes.jsonl out of version control: they hold your rows.
`);
  if (fault !== null) process.stdout.write(`\nNot yet in order: ${fault.message}\n  ${fault.hint}\n`);
};

/** Blade's databases first, then SQLite files in this directory. Throws HIVE_MISSING, HIVE_AMBIGUOUS. */
const findHive = (): string => {
  const blade = globSync('.blade/state/databases/*/db.sqlite').toSorted();
  const found = blade.length > 0 ? blade : globSync('*.{sqlite,sqlite3,db}').filter(isDatabase).toSorted();
  const [first] = found;
  if (first === undefined) {
    throw new WaggleError('HIVE_MISSING', 'there is no SQLite database here', {
      hint: 'Start the application once, go to its directory, or name the file: waggle init <file>',
    });
  }
  if (found.length > 1)
    throw new WaggleError('HIVE_AMBIGUOUS', `there is more than one SQLite database: ${found.join(', ')}`, {
      hint: 'Name the one you mean: waggle init <file>',
    });
  return first;
};

const isDatabase = (path: string): boolean => {
  const code = faultOf(path)?.code;
  return code === undefined || code === 'HIVE_NOT_WAL' || code === 'HIVE_LOCKS_NOT_SHARED';
};

/** Why it cannot be captured as it is now; null: nothing. Throws HIVE_MISSING. */
const faultOf = (path: string): WaggleError | null => {
  try {
    resolveHive(path);
    return null;
  } catch (error) {
    if (error instanceof WaggleError && error.code !== 'HIVE_MISSING') return error;
    throw error;
  }
};

const writeConfig = (path: string, text: string): void => {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new WaggleError('USAGE', `${path} cannot be written (${systemErrorCode(error) ?? 'unknown error'})`, {
      cause: error,
      hint: 'Name another place with -c.',
    });
  }
};

/** Where an editor finds the JSON Schema: in this package, from the configuration's directory. */
const schemaPath = (directory: string): string => {
  for (const up of ['../../schemas/', '../../../schemas/']) {
    const path = fileURLToPath(new URL(`${up}waggle.schema.json`, import.meta.url));
    if (existsSync(path)) return relative(directory, path);
  }
  return 'waggle.schema.json';
};

const quoteYaml = (text: string): string => (/^[\w./][\w./ -]*$/.test(text) && !/^[\d.]+$/.test(text) ? text : JSON.stringify(text));

const configText = (hive: string, schema: string): string => `# yaml-language-server: $schema=${schema}
#
# Waggle captures the rows of one SQLite database and feeds them to sinks. Paths are relative to this file;
# \${NAME} is an environment variable, \${file:PATH} the content of a file.

# The database. The application goes on writing it; waggle never writes a row into it.
hive: ${quoteYaml(hive)}

# Position, log and mirror: waggle's own directory.
state: .waggle

# What is captured at all. Tables left out here never leave the database.
# tables: { exclude: [sessions] }

# How long changes stay in the log, for sinks that are down.
# retention: { age: 1d, size: 1GB }

# Where changes go. Each sink starts with the rows that exist, then follows; it goes on where it stopped after any crash.
sinks:
  # Every change as one line of JSON (Debezium's envelope).
  changes:
    type: jsonl
    file: changes.jsonl

  # A copy in another SQLite file.
  # copy:
  #   type: sqlite
  #   file: copy.sqlite

  # An embedded Postgres, no server needed.
  # local:
  #   type: pglite
  #   dir: pg

  # A Postgres server; tables are created on first use.
  # reporting:
  #   type: postgres
  #   url: \${DATABASE_URL}
  #   tables:
  #     accounts: { to: users, columns: { exclude: [password], rename: { "ronin.createdAt": created_at } } }
  #   batch: { rows: 20000, delay: 5ms }
`;
