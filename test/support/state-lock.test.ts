import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StateLock } from '../../src/support/state-lock.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const HOLDER = `
  import { StateLock } from ${JSON.stringify(join(import.meta.dirname, '../../src/support/state-lock.ts'))};
  globalThis.lock = StateLock.acquire(process.argv[1]);
  console.log('held');
  setInterval(() => {}, 1000);
`;

describe('the lock of a state directory', () => {
  it('is free, held, and free again', () => {
    using directory = temporaryDirectory();
    expect(StateLock.holder(directory.path)).toBeNull();
    {
      using _lock = StateLock.acquire(directory.path);
      expect(StateLock.holder(directory.path)).toMatchObject({ pid: process.pid });
      expect(() => StateLock.acquire(directory.path)).toThrow(expect.objectContaining({ code: 'STATE_IN_USE' }));
    }
    expect(StateLock.holder(directory.path)).toBeNull();
    StateLock.acquire(directory.path)[Symbol.dispose]();
  });

  it('names the process that holds it, and dies with it, however it dies', async () => {
    using directory = temporaryDirectory();
    const holder = spawn(process.execPath, ['--input-type=module', '-e', HOLDER, directory.path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => holder.once('close', resolve));
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    expect(StateLock.holder(directory.path)?.pid).toBe(holder.pid);
    expect(() => StateLock.acquire(directory.path)).toThrow(
      expect.objectContaining({ code: 'STATE_IN_USE', message: expect.stringContaining(`pid ${holder.pid}`) as string }),
    );
    holder.kill('SIGKILL');
    await ended;
    using _lock = StateLock.acquire(directory.path);
    expect(StateLock.holder(directory.path)?.pid).toBe(process.pid);
  });
});
