/** Compiles disk-shim.c, and steers the faults that it puts in. */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { findExecutable } from './find-executable.ts';

const COMPILER = 'gcc';
const CONTROL_BYTES = 8192;
/** Offsets in the control file (`struct control`). */
const [KIND, AT, COUNT, FIRED, STICKY, SCOPE, WHAT] = [4, 8, 12, 16, 20, 24, 1048] as const;
const KINDS = ['EIO', 'ENOSPC', 'short', 'torn', 'die'] as const;

/** `short`: half is written, and the rest when it is tried again. `torn`: half is written, and EIO. */
export type FaultKind = (typeof KINDS)[number];

/** The shim is Linux's way, and needs a compiler. */
export const canShim = (): boolean => process.platform === 'linux' && findExecutable(COMPILER) !== null;

/** The shared library, compiled into `dir`. */
export const compileShim = (dir: string): string => {
  const library = join(dir, 'disk-shim.so');
  execFileSync(COMPILER, ['-O2', '-shared', '-fPIC', '-o', library, join(import.meta.dirname, 'disk-shim.c'), '-ldl', '-lpthread']);
  return library;
};

export interface ShimOptions {
  readonly library: string;
  /** Resolved. */
  readonly dir: string;
  readonly control: string;
  readonly trace?: string;
}

/** The environment of a process that shall be seen, and of its children. */
export const shimEnvironment = ({ library, dir, control, trace }: ShimOptions): NodeJS.ProcessEnv => ({
  LD_PRELOAD: library,
  WAGGLE_DISK_DIR: dir,
  WAGGLE_DISK_CONTROL: control,
  ...(trace === undefined ? {} : { WAGGLE_DISK_TRACE: trace }),
  // libuv's ring would pass by the shim.
  UV_USE_IO_URING: '0',
});

/** One control file; processes that run with it are steered at once. */
export class DiskFaults implements Disposable {
  readonly path: string;
  readonly #fd: number;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'w+');
    ftruncateSync(this.#fd, CONTROL_BYTES);
  }

  /** From now on the n-th operation (1-based) below `scope` fails; `sticky`: and every later one. 0: none does, but they are counted. */
  arm(options: { scope: string; n: number; kind: FaultKind; sticky?: boolean }): void {
    this.#set(AT, 0);
    const scope = Buffer.alloc(WHAT - SCOPE);
    scope.write(options.scope);
    writeSync(this.#fd, scope, 0, scope.length, SCOPE);
    writeSync(this.#fd, Buffer.alloc(200), 0, 200, WHAT);
    this.#set(COUNT, 0);
    this.#set(FIRED, 0);
    this.#set(KIND, KINDS.indexOf(options.kind) + 1);
    this.#set(STICKY, options.sticky === true ? 1 : 0);
    this.#set(AT, options.n);
  }

  disarm(): void {
    this.#set(AT, 0);
  }

  get count(): number {
    return this.#get(COUNT);
  }

  get hasFired(): boolean {
    return this.#get(FIRED) !== 0;
  }

  /** Which operation failed, for people. */
  get what(): string {
    const text = Buffer.alloc(200);
    readSync(this.#fd, text, 0, text.length, WHAT);
    return text.toString('utf8', 0, text.indexOf(0));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #set(offset: number, value: number): void {
    const word = Buffer.alloc(4);
    word.writeUInt32LE(value);
    writeSync(this.#fd, word, 0, 4, offset);
  }

  #get(offset: number): number {
    const word = Buffer.alloc(4);
    readSync(this.#fd, word, 0, 4, offset);
    return word.readUInt32LE();
  }
}
