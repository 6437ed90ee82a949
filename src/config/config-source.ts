/**
 * The text of a configuration file: YAML with its positions, and the substitutions `${NAME}` (environment) and
 * `${file:PATH}` (a file's content without its last line break). Only values are substituted, never keys; the result
 * is always text and never read as YAML again. `$${` stands for `${`.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';
import { WaggleError, systemErrorCode } from '../support/errors.ts';

export type ConfigPath = readonly PropertyKey[];

export class ConfigSource {
  readonly path: string;
  readonly #lines: LineCounter;
  readonly #document: Document.Parsed;
  readonly #substituted = new Set<Node>();

  private constructor(path: string, document: Document.Parsed, lines: LineCounter) {
    this.path = path;
    this.#document = document;
    this.#lines = lines;
  }

  /** `only`: substitutions are made in the value of this option alone. Throws CONFIG_MISSING, CONFIG_INVALID. */
  static read(path: string, env: NodeJS.ProcessEnv, { only }: { readonly only?: string } = {}): ConfigSource {
    const lines = new LineCounter();
    const text = readText(path);
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
    const source = new ConfigSource(path, document, lines);
    const [fault] = [...document.errors, ...document.warnings];
    if (fault !== undefined) {
      const line = text.split('\n')[lines.linePos(fault.pos[0]).line - 1] ?? '';
      // Inside { } the closing brace of ${NAME} ends YAML's map.
      const hint = /[{[,].*\$\{/.test(line) ? { hint: 'Inside { } and [ ] write "${NAME}" with quotes.' } : {};
      throw new WaggleError('CONFIG_INVALID', `${source.#at(fault.pos[0])}: not valid YAML: ${firstLine(fault.message)}`, hint);
    }
    const within = only === undefined ? document : source.#node([only]);
    if (within !== null) source.#substitute(env, within);
    return source;
  }

  /** The whole document as plain values, or one option of it. */
  value(option?: string): unknown {
    const value: unknown = this.#document.toJS();
    if (option === undefined) return value;
    return typeof value === 'object' && value !== null ? Reflect.get(value, option) : undefined;
  }

  /** An error about the value (or, with `key`, about the name) at this path; where there is none, about what should hold it. */
  invalid(path: ConfigPath, message: string, options: { readonly key?: boolean; readonly hint?: string } = {}): WaggleError {
    return new WaggleError('CONFIG_INVALID', `${this.place(path, options)}: ${message}`, options);
  }

  /** File, line, column and full name of the value (or, with `key`, of the name) at this path; where there is none, of what should hold it. */
  place(path: ConfigPath, { key = false }: { readonly key?: boolean } = {}): string {
    return [this.#at(this.#offset(path, key)), ...(path.length === 0 ? [] : [path.map(String).join('.')])].join(': ');
  }

  /** True if the value came out of the environment or a file, so that it must not be shown. */
  isSubstituted(path: ConfigPath): boolean {
    const node = this.#node(path);
    return node !== null && this.#substituted.has(node);
  }

  #substitute(env: NodeJS.ProcessEnv, within: Node | Document): void {
    visit(within, {
      Scalar: (key, node) => {
        if (key === 'key' || typeof node.value !== 'string' || !node.value.includes('${')) return;
        node.value = node.value.replace(/\$?\$\{([^}]*)\}/g, (match, name: string) => {
          if (match.startsWith('$$')) return match.slice(1);
          this.#substituted.add(node);
          return this.#lookUp(name, env, node.range?.[0] ?? 0);
        });
      },
    });
  }

  #lookUp(name: string, env: NodeJS.ProcessEnv, offset: number): string {
    const fail = (message: string, hint: string): never => {
      throw new WaggleError('CONFIG_INVALID', `${this.#at(offset)}: ${message}`, { hint });
    };
    if (name.startsWith('file:')) {
      const file = resolve(dirname(this.path), name.slice(5));
      try {
        return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
      } catch (error) {
        return fail(`\${${name}} cannot be read (${systemErrorCode(error) ?? 'unknown error'})`, 'Paths are relative to the configuration file.');
      }
    }
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      return fail(`\${${name}} is neither a variable nor a file`, 'Write ${NAME} or ${file:PATH}; $${ stands for ${.');
    }
    return env[name] ?? fail(`the environment variable ${name} is not set`, `Set ${name}, for example: ${name}=… waggle run`);
  }

  #node(path: ConfigPath): Node | null {
    const node: unknown = path.length === 0 ? this.#document.contents : this.#document.getIn(path, true);
    return isMap(node) || isSeq(node) || isScalar(node) ? node : null;
  }

  #offset(path: ConfigPath, key: boolean): number {
    for (let length = path.length; length > 0; length -= 1) {
      const parent = this.#node(path.slice(0, length - 1));
      const name = path[length - 1];
      const pair = isMap(parent) ? parent.items.find((item) => (isScalar(item.key) ? item.key.value : item.key) === name) : undefined;
      const found = (key && length === path.length ? null : this.#node(path.slice(0, length))) ?? pair?.key;
      if (isScalar(found) || isMap(found) || isSeq(found)) return found.range?.[0] ?? 0;
    }
    return this.#document.contents?.range[0] ?? 0;
  }

  #at(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.path}:${Math.max(1, line)}:${Math.max(1, col)}`;
  }
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = systemErrorCode(error);
    throw new WaggleError('CONFIG_MISSING', code === 'ENOENT' ? `there is no ${path}` : `${path} cannot be read (${code ?? 'unknown error'})`, {
      cause: error,
    });
  }
};

const firstLine = (message: string): string => message.split('\n')[0] ?? '';
