/** A keeper process that says that it is of another version; else `src/keeper/main.ts`. */
import { KeeperServer } from '../../src/keeper/keeper-server.ts';
import { type KeeperOptions, PROTOCOL } from '../../src/keeper/protocol.ts';

await new KeeperServer(JSON.parse(process.argv[2] ?? '{}') as KeeperOptions, PROTOCOL + 1).run();
