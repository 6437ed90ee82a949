/**
 * `npm ci` in a clone runs this (npm's `prepare`): it puts `waggle` into node_modules/.bin, where `npx waggle` finds it
 * at once and gives it the project's own Node. npm links the commands of dependencies there, not those of the project.
 * A `bin` entry in package.json would not help: npx then installs the project into its cache, on the machine's Node;
 * so that entry is only there in the published package (see `prepack`).
 *
 * Plain JavaScript without newer syntax: it runs on the machine's Node before the project has its own.
 */
import { chmodSync, existsSync, rmSync, symlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import process from 'node:process';

const pathOf = (path) => fileURLToPath(new URL('../../' + path, import.meta.url));
const link = pathOf('node_modules/.bin/waggle');

if (process.platform !== 'win32' && existsSync(pathOf('node_modules/.bin'))) {
  rmSync(link, { force: true });
  symlinkSync('../../src/cli/waggle.js', link);
  chmodSync(pathOf('src/cli/waggle.js'), 0o755);
}
