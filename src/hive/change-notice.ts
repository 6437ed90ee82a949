/**
 * Wakes the tail when somebody wrote to the hive's files. A notice may come early (a frame is written before its commit
 * is published) or not at all (file systems lose some): it is a hint, and whoever waits polls as well.
 */
import { basename, dirname } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';

export class ChangeNotice implements AsyncDisposable {
  readonly #watcher: FSWatcher;

  private constructor(watcher: FSWatcher) {
    this.#watcher = watcher;
  }

  /** Calls `notify` for each sign of a change. Errors of the watcher go to `failed`, once; polling goes on without it. */
  static async open(hive: string, notify: () => void, failed: (error: unknown) => void): Promise<ChangeNotice> {
    const name = basename(hive);
    const watcher = watch(dirname(hive), {
      depth: 0,
      ignoreInitial: true,
      ignored: (path, stats) => stats?.isFile() === true && !basename(path).startsWith(name),
    });
    // `raw` comes with the kernel's notice; `change` only after a stat (0.3 ms later).
    watcher.on('raw', (_event, path) => {
      if (typeof path === 'string' && basename(path).startsWith(name)) notify();
    });
    watcher.on('error', failed);
    await new Promise<void>((resolve) => watcher.once('ready', resolve));
    return new ChangeNotice(watcher);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watcher.close();
  }
}
