/**
 * A disk that a trace is played onto, and what can stand on it after the power was lost: what was synced, and any part of
 * what was not. Files lose whole writes or single sectors of them, in any subset and over all files; a directory that was not
 * synced loses any of its creates, renames and unlinks. Stricter than a file system with a journal is.
 */
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../helpers/random.ts';
import type { DiskOperation } from './disk-trace.ts';

const SECTOR_BYTES = 512;

/** How much of what was not synced is lost. */
export type Loss =
  /** Everything is there, as after a kill of all processes. */
  | 'nothing'
  /** Everything that can be. */
  | 'all'
  /** What was written, not the names; and the other way round. */
  | 'contents'
  | 'names'
  /** Each write and each name by itself, or not. */
  | 'some'
  /** The same, and each sector of what is left by itself. */
  | 'torn';

export class SimulatedDisk {
  readonly #root = new Directory();
  /** By inode: the file or directory that has it now. */
  readonly #nodes = new Map<number, File | Directory>();
  /** Syncs that have begun: what each will make durable. */
  readonly #syncs = new Map<bigint, () => void>();

  /** `directories`: what is there before the first operation, parents first. */
  constructor(directories: readonly string[]) {
    for (const path of directories) {
      const { directory, name } = this.#place(path);
      directory.change([[name, new Directory()]]);
      directory.sync()();
    }
  }

  apply(operation: DiskOperation): void {
    switch (operation.kind) {
      case 'open': {
        const node = this.#find(operation.path);
        if (node !== null) this.#nodes.set(operation.inode, node);
        return;
      }
      case 'create': {
        const file = new File();
        this.#nodes.set(operation.inode, file);
        this.#change(operation.path, file);
        return;
      }
      case 'mkdir':
        this.#change(operation.path, new Directory());
        return;
      case 'unlink':
      case 'rmdir':
        this.#change(operation.path, null);
        return;
      case 'rename': {
        const { directory, name } = this.#place(operation.path);
        directory.change([
          [name, null],
          [this.#place(operation.to).name, this.#file(operation.inode)],
        ]);
        return;
      }
      case 'write':
      case 'truncate':
        this.#file(operation.inode).change(operation);
        return;
      case 'syncBegin': {
        const node = this.#nodes.get(operation.inode);
        if (node === undefined) throw new Error(`inode ${operation.inode} was never opened`);
        this.#syncs.set(operation.token, node.sync());
        return;
      }
      case 'syncEnd':
        this.#syncs.get(operation.token)?.();
        this.#syncs.delete(operation.token);
    }
  }

  /** Writes to the directory `target` what is there after a loss of power now; `loss` is asked for each path. */
  writeTo(target: string, loss: (path: string) => Loss, random: Random): void {
    const writeDirectory = (directory: Directory, path: string): void => {
      mkdirSync(join(target, path), { recursive: true });
      for (const [name, node] of directory.after((each) => loss(join(path, each)), random)) {
        const inner = join(path, name);
        if (node instanceof Directory) {
          writeDirectory(node, inner);
          continue;
        }
        writeFileSync(join(target, inner), node.after(loss(inner), random));
        const seconds = Number(node.timeNs / 1000n) / 1e6;
        utimesSync(join(target, inner), seconds, seconds);
      }
    };
    writeDirectory(this.#root, '');
  }

  /** What a file holds if everything is lost that can be; null: it is not there then. */
  durable(path: string): Buffer | null {
    let directory = this.#root;
    const steps = path.split('/');
    for (const step of steps.slice(0, -1)) {
      const next = directory.durable.get(step);
      if (!(next instanceof Directory)) return null;
      directory = next;
    }
    const file = directory.durable.get(steps.at(-1)!);
    return file instanceof File ? file.durable : null;
  }

  /** When a file was last changed. */
  timeNs(path: string): bigint | null {
    const node = this.#find(path);
    return node instanceof File ? node.timeNs : null;
  }

  #change(path: string, node: File | Directory | null): void {
    const { directory, name } = this.#place(path);
    directory.change([[name, node]]);
  }

  #file(inode: number): File {
    const file = this.#nodes.get(inode);
    if (!(file instanceof File)) throw new Error(`inode ${inode} was never created`);
    return file;
  }

  #find(path: string): File | Directory | null {
    if (path === '') return this.#root;
    const { directory, name } = this.#place(path);
    return directory.names.get(name) ?? null;
  }

  #place(path: string): { directory: Directory; name: string } {
    const steps = path.split('/');
    const name = steps.pop()!;
    const directory = this.#find(steps.join('/'));
    if (!(directory instanceof Directory)) throw new Error(`${path} lies in no directory`);
    return { directory, name };
  }
}

type Change = Extract<DiskOperation, { kind: 'write' | 'truncate' }>;

class File {
  timeNs = 0n;
  readonly #durable = new Content();
  readonly #pending: Change[] = [];

  get durable(): Buffer {
    return this.#durable.bytes;
  }

  change(change: Change): void {
    this.#pending.push(change);
    this.timeNs = change.timeNs;
  }

  /** Begins a sync; the result ends it. */
  sync(): () => void {
    const last = this.#pending.at(-1);
    return () => {
      const count = last === undefined ? 0 : this.#pending.indexOf(last) + 1;
      for (const change of this.#pending.splice(0, count)) this.#durable.apply(change);
    };
  }

  after(loss: Loss, random: Random): Buffer {
    if (loss === 'all' || loss === 'contents' || this.#pending.length === 0) return this.#durable.bytes;
    const content = this.#durable.copy();
    for (const change of this.#pending) {
      if (loss === 'nothing' || loss === 'names') content.apply(change);
      else if (random.chance(0.5)) continue;
      else if (loss === 'torn' && change.kind === 'write') tear(content, change, random);
      else content.apply(change);
    }
    return content.bytes;
  }
}

/** Some of a write's sectors, as they lie on the disk. */
const tear = (content: Content, { offset, data }: Extract<Change, { kind: 'write' }>, random: Random): void => {
  for (let at = 0; at < data.length;) {
    const length = Math.min(SECTOR_BYTES - ((offset + at) % SECTOR_BYTES), data.length - at);
    if (random.chance(0.5)) content.write(offset + at, data.subarray(at, at + length));
    at += length;
  }
};

type NameChange = readonly [name: string, node: File | Directory | null];

class Directory {
  /** As every process sees it. */
  readonly names = new Map<string, File | Directory>();
  readonly durable = new Map<string, File | Directory>();
  /** A rename is two changes that are lost together. */
  readonly #pending: (readonly NameChange[])[] = [];

  change(changes: readonly NameChange[]): void {
    this.#pending.push(changes);
    setNames(this.names, changes);
  }

  sync(): () => void {
    const last = this.#pending.at(-1);
    return () => {
      const count = last === undefined ? 0 : this.#pending.indexOf(last) + 1;
      for (const changes of this.#pending.splice(0, count)) setNames(this.durable, changes);
    };
  }

  after(loss: (name: string) => Loss, random: Random): Map<string, File | Directory> {
    const names = new Map(this.durable);
    for (const changes of this.#pending) {
      const how = loss(changes.at(-1)![0]);
      const isKept = how === 'nothing' || how === 'contents' || ((how === 'some' || how === 'torn') && random.chance(0.5));
      if (isKept) setNames(names, changes);
    }
    return names;
  }
}

const setNames = (names: Map<string, File | Directory>, changes: readonly NameChange[]): void => {
  for (const [name, node] of changes) {
    if (node === null) names.delete(name);
    else names.set(name, node);
  }
};

/** Bytes that grow, a page at a time. */
class Content {
  #room = Buffer.alloc(0);
  #length = 0;

  get bytes(): Buffer {
    return this.#room.subarray(0, this.#length);
  }

  apply(change: Change): void {
    if (change.kind === 'write') this.write(change.offset, change.data);
    else this.#resize(change.length);
  }

  write(offset: number, data: Buffer): void {
    if (offset + data.length > this.#length) this.#resize(offset + data.length);
    data.copy(this.#room, offset);
  }

  copy(): Content {
    const copy = new Content();
    copy.#room = Buffer.alloc(this.#length + 8192);
    this.bytes.copy(copy.#room);
    copy.#length = this.#length;
    return copy;
  }

  #resize(length: number): void {
    if (length > this.#room.length) {
      const room = Buffer.alloc(length * 2 + 8192);
      this.bytes.copy(room);
      this.#room = room;
    } else if (length < this.#length) this.#room.fill(0, length, this.#length);
    this.#length = length;
  }
}
