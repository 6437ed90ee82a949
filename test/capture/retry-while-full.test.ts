import { expect, it } from 'vitest';
import { retryWhileFull } from '../../src/capture/retry-while-full.ts';
import type { WaggleError } from '../../src/support/errors.ts';

const full = (): Error => Object.assign(new Error('no space'), { code: 'ENOSPC' });

it('waits for space, tells of it once, and gives what the work gives', async () => {
  const told: WaggleError[] = [];
  let left = 2;
  const result = await retryWhileFull(
    () => {
      left -= 1;
      if (left >= 0) throw full();
      return 'done';
    },
    { warn: (error) => void told.push(error), isStopping: () => false },
  );
  expect([result, told.map((error) => error.code)]).toEqual(['done', ['DISK_FULL']]);
});

it('does not hold up whoever wants capture to end', async () => {
  let isStopping = false;
  setTimeout(() => (isStopping = true), 100);
  const work = retryWhileFull(() => Promise.reject(full()), { warn: () => {}, isStopping: () => isStopping });
  await expect(work).rejects.toMatchObject({ code: 'DISK_FULL' });
});

it('throws what is not want of space', async () => {
  await expect(retryWhileFull(() => Promise.reject(new Error('other')), { warn: () => {}, isStopping: () => false })).rejects.toThrow('other');
});
