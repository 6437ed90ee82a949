#!/usr/bin/env node
/**
 * The `waggle` command: looks at the version of Node before anything native is loaded (better-sqlite3 crashes on an
 * older one), then hands over. Plain JavaScript that Node 16 can read.
 */
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import process from 'node:process';

const REQUIRED = 24;

if (Number(process.versions.node.split('.')[0]) < REQUIRED) {
  process.stderr.write(
    'waggle: needs Node ' +
      REQUIRED +
      ' or newer, this is v' +
      process.versions.node +
      '; install it, or run `npx waggle` in a clone after `npm ci`, which brings its own [NODE_TOO_OLD]\n',
  );
  process.exitCode = 2;
} else if (typeof process.execve === 'function' && !process.execArgv.some((flag) => flag.startsWith('--max-semi-space-size'))) {
  // Rows live for milliseconds: with V8's default the nursery alone grows by 100 MB and more before it is looked through. The
  // flag counts only from the start of a process, so this one becomes itself once more (same pid, same descriptors). The same goes
  // for glibc, which otherwise keeps freed page images in an arena for each of its threads.
  const args = [process.execPath, '--max-semi-space-size=4', ...process.execArgv, ...process.argv.slice(1)];
  process.execve(process.execPath, args, { MALLOC_ARENA_MAX: '2', ...process.env });
} else {
  // Compiled code is kept in the temporary directory: the next start takes half the time.
  module.enableCompileCache();
  // TypeScript in a checkout, JavaScript in the published package.
  const main = existsSync(new URL('main.js', import.meta.url)) ? './main.js' : './main.ts';
  void import(main).then(({ main: run }) => run(process.argv));
}
