/**
 * Entry of the keeper process: `node main.ts <KeeperOptions as JSON>`, with a pipe to the daemon on descriptor 3
 * (keeper-process.ts starts it). Signals that a terminal sends to the whole process group do not end it: the daemon decides.
 */
import { flushCompileCache } from 'node:module';
import { setPriority } from 'node:os';
import { KeeperServer } from './keeper-server.ts';
import type { KeeperOptions } from './protocol.ts';

process.title = 'waggle-keeper';
process.umask(0o077);
try {
  // A keeper of a later session is started by a capture that has stepped back behind the application: what holds the application
  // up must not. (Raising a priority takes a right that not every user has.)
  setPriority(0, 0);
} catch {
  // It then keeps capture's priority.
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

await new KeeperServer(JSON.parse(process.argv[2] ?? '{}') as KeeperOptions).run();
// It ends by SIGKILL, where Node would have no time for it.
flushCompileCache();
