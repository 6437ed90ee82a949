/**
 * `where`: a condition in CEL (https://cel.dev) over the hive's own values, before any shaping. Column names are variables; those that
 * are no identifiers stand in `row["ronin.createdAt"]`. INTEGER is int, REAL double, TEXT string, BLOB bytes, NULL null; booleans of
 * Hive are 0 and 1.
 *
 * A row passes where the condition is true. Where it cannot be evaluated and a column that it names is NULL, the row does not pass, as in
 * SQL; `age > 3` with age NULL is such a case. Where it cannot be evaluated for any other reason, the row is refused.
 */
import { type ASTNode, Environment, type ParseResult } from '@marcbachmann/cel-js';
import type { Row } from '../../change/row.ts';
import type { Table, Value } from '../../change/table.ts';
import { WaggleError } from '../../support/errors.ts';
import { suggestion } from '../../support/nearest-name.ts';

const IDENTIFIER = /^[A-Za-z_]\w*$/;

export class RowFilter {
  readonly #expression: string;
  readonly #place: string;
  readonly #evaluate: ParseResult;
  /** Columns that the expression may name. */
  readonly #names: ReadonlySet<string>;
  readonly #wholeRow: boolean;

  /** `place`: of the expression in the configuration, for errors. Throws CONFIG_INVALID where the expression is none. */
  constructor(expression: string, place: string) {
    this.#expression = expression;
    this.#place = place;
    try {
      this.#evaluate = new Environment({ unlistedVariablesAreDyn: true, homogeneousAggregateLiterals: false }).parse(expression);
    } catch (error) {
      throw this.#invalid(summaryOf(error));
    }
    const names = namesIn(this.#evaluate.ast);
    this.#names = new Set([...names.variables, ...names.members]);
    this.#wholeRow = names.variables.has('row');
  }

  /** Throws CONFIG_INVALID where the expression names a column that the table does not have, or is not a condition. */
  check(table: Table): void {
    const columns = table.columns.map((column) => column.name);
    const { members } = namesIn(this.#evaluate.ast);
    const missing = [...members].find((name) => !columns.includes(name));
    if (missing !== undefined) throw this.#unknown(table, missing);
    const environment = new Environment({ homogeneousAggregateLiterals: false });
    environment.registerVariable('row', 'map');
    for (const name of columns) if (IDENTIFIER.test(name) && name !== 'row') environment.registerVariable(name, 'dyn');
    const { valid, type, error } = environment.check(this.#expression);
    if (!valid) {
      const unknown = /Unknown variable: (\w+)/.exec(error?.message ?? '')?.[1];
      throw unknown === undefined ? this.#invalid(summaryOf(error), table) : this.#unknown(table, unknown);
    }
    if (type !== 'bool' && type !== 'dyn') throw this.#invalid(`it is not a condition, but of type ${type}`, table);
  }

  /** Throws SINK_ROW_REFUSED. */
  passes(row: Row): boolean {
    const values = row.values('bigint');
    const context: Record<string, Value | Record<string, Value>> = {};
    for (const name of this.#names) context[name] = null;
    let sawNull = false;
    for (const [index, { name }] of row.table.columns.entries()) {
      if (!this.#names.has(name)) continue;
      context[name] = values[index] ?? null;
      sawNull ||= context[name] === null;
    }
    if (this.#wholeRow) context['row'] = Object.fromEntries(row.table.columns.map(({ name }, index) => [name, values[index] ?? null]));
    let result: unknown;
    try {
      result = this.#evaluate(context);
    } catch {
      if (sawNull) return false;
      throw this.#refused(row.table, 'cannot be evaluated for a row (its values are of other types)');
    }
    if (typeof result === 'boolean') return result;
    if (result === null) return false;
    throw this.#refused(row.table, 'is neither true nor false for a row');
  }

  #unknown(table: Table, name: string): WaggleError {
    const columns = table.columns.map((column) => column.name);
    return this.#invalid(`the table ${table.name} has no column ${name}${suggestion(name, columns)}`);
  }

  #invalid(reason: string, table?: Table): WaggleError {
    const of = table === undefined ? '' : ` (table ${table.name})`;
    return new WaggleError('CONFIG_INVALID', `${this.#place}: \`${this.#expression}\`: ${reason}${of}`);
  }

  #refused(table: Table, what: string): WaggleError {
    return new WaggleError('SINK_ROW_REFUSED', `table ${table.name}: \`where: ${this.#expression}\` ${what}`, {
      hint: 'Mend the expression: int(x), double(x) and string(x) convert, `type(x) == int` asks.',
    });
  }
}

/** Variables, and names in `row.name` and `row["name"]`. Variables of a macro come along; they do no harm. */
const namesIn = (ast: ASTNode): { variables: Set<string>; members: Set<string> } => {
  const variables = new Set<string>();
  const members = new Set<string>();
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) return node.forEach(visit);
    if (typeof node !== 'object' || node === null || !('op' in node)) return;
    const { op, args } = node as ASTNode;
    if (op === 'id') variables.add(args);
    else if (op !== 'value') visit(args);
    if ((op === '.' || op === '[]') && args[0].op === 'id' && args[0].args === 'row') {
      const member = typeof args[1] === 'string' ? args[1] : args[1].op === 'value' ? args[1].args : null;
      if (typeof member === 'string') members.add(member);
    }
  };
  visit(ast);
  return { variables, members };
};

const summaryOf = (error: unknown): string => {
  const text = error instanceof Error && 'summary' in error && typeof error.summary === 'string' ? error.summary : String(error);
  return text.split('\n')[0] ?? text;
};
