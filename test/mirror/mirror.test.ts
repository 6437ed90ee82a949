import { appendFileSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Mirror } from '../../src/mirror/mirror.ts';
import { assertState, batchesOf, createMirror, FIRST_PAGES, openAndCheck, optionsFor, PAGE_SIZE, takeBatch } from '../helpers/mirror-scene.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const redoOf = (directory: string): string =>
  join(
    directory,
    readdirSync(directory).find((name) => name.startsWith('redo-'))!,
  );

describe('mirror', () => {
  it('holds every state of a database that grows and shrinks, from redo, cache and page file', async () => {
    using directory = temporaryDirectory();
    const options = optionsFor(join(directory.path, 'mirror'));
    const batches = batchesOf(5, 300);
    const mirror = createMirror(options);
    for (const batch of batches) {
      takeBatch(mirror, batch);
      await mirror.afterLogCommit();
      if (batch.id % 7 === 0) assertState(mirror, batches, batch.id);
      if (batch.id % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await mirror[Symbol.asyncDispose]();
    await openAndCheck(options, batches, 300);
  });

  it('gives staged pages before they are committed, and zeros where a grown database was not written', async () => {
    using directory = temporaryDirectory();
    await using mirror = createMirror(optionsFor(join(directory.path, 'mirror')));
    const image = Buffer.alloc(PAGE_SIZE, 7);
    mirror.stage([FIRST_PAGES + 3], () => image, FIRST_PAGES + 3);
    expect(mirror.page(FIRST_PAGES + 3)).toEqual(image);
    expect(mirror.page(FIRST_PAGES + 1)).toEqual(Buffer.alloc(PAGE_SIZE));
    // Page 20 leaves with the end of the database; when that comes back nobody has written it.
    mirror.stage([], () => image, FIRST_PAGES - 1);
    mirror.stage([], () => image, FIRST_PAGES);
    expect(mirror.page(FIRST_PAGES)).toEqual(Buffer.alloc(PAGE_SIZE));
    mirror.commit(2);
    expect(mirror.page(FIRST_PAGES)).toEqual(Buffer.alloc(PAGE_SIZE));
  });

  it('a page that left with the end of the database and came back is not what was compared with zeros', async () => {
    using directory = temporaryDirectory();
    const options = optionsFor(join(directory.path, 'mirror'));
    const mirror = createMirror(options);
    mirror.stage([], () => Buffer.alloc(0), FIRST_PAGES - 1);
    mirror.commit(2);
    const image = Buffer.alloc(PAGE_SIZE);
    image.fill(9, 100, 120);
    mirror.difference(FIRST_PAGES, mirror.page(FIRST_PAGES), image, PAGE_SIZE);
    mirror.stage([FIRST_PAGES], () => image, FIRST_PAGES);
    mirror.commit(3);
    await mirror[Symbol.asyncDispose]();
    const again = Mirror.open(options, 3);
    if (!(again instanceof Mirror)) throw new Error(again.invalid);
    expect(again.page(FIRST_PAGES)).toEqual(image);
    await again[Symbol.asyncDispose]();
  });

  it('a batch that did not reach the log is cut off, and another takes its place', async () => {
    using directory = temporaryDirectory();
    const options = optionsFor(join(directory.path, 'mirror'));
    const batches = batchesOf(9, 6);
    const mirror = createMirror(options);
    for (const batch of batches) takeBatch(mirror, batch);
    await mirror[Symbol.asyncDispose]();
    const again = Mirror.open(options, 5);
    if (!(again instanceof Mirror)) throw new Error(again.invalid);
    assertState(again, batches, 5);
    const other = { id: 6, sizePages: again.sizePages, pages: [1, 2], isLarge: false };
    takeBatch(again, other);
    await again[Symbol.asyncDispose]();
    await openAndCheck(options, [...batches.slice(0, -1), other], 6);
  });

  it('torn redo: cut off or overwritten at any place it is valid up to the batch before, and not as of the torn one', async () => {
    const batches = batchesOf(3, 4);
    for (let cut = 1; cut < 6000; cut += 97) {
      using directory = temporaryDirectory();
      const options = optionsFor(join(directory.path, 'mirror'));
      const mirror = createMirror(options);
      for (const batch of batches.slice(0, -1)) takeBatch(mirror, batch);
      const before = statSync(redoOf(options.directory)).size;
      takeBatch(mirror, batches.at(-1)!);
      const { size } = statSync(redoOf(options.directory));
      await mirror[Symbol.asyncDispose]();
      if (before + cut >= size) break;
      truncateSync(redoOf(options.directory), before + cut);
      if (cut % 2 === 0) appendFileSync(redoOf(options.directory), Buffer.alloc(size - before - cut, cut));
      expect(Mirror.open(options, 4)).toEqual({ invalid: 'its redo log ends at batch 3, the log at 4' });
      await openAndCheck(options, batches, 3);
    }
  });

  it.each([
    ['there is no mirror', (directory: string) => writeFileSync(join(directory, 'folded'), '')],
    ['there is no mirror', (directory: string) => writeFileSync(join(directory, 'folded'), '{"batchId":1,"sizePages":21,"pageSize":512}\n12345\n')],
    ['its page file is too short', (directory: string) => truncateSync(join(directory, 'pages'), PAGE_SIZE * 3)],
  ])('tells that %s', async (reason, damage) => {
    using directory = temporaryDirectory();
    const options = optionsFor(join(directory.path, 'mirror'));
    await createMirror(options)[Symbol.asyncDispose]();
    damage(options.directory);
    const opened = Mirror.open(options, 1);
    expect(opened instanceof Mirror ? null : opened.invalid).toContain(reason);
  });

  it('is not valid ahead of the log (folded batches that the log lost), nor with a hole in its redo', async () => {
    using directory = temporaryDirectory();
    const options = optionsFor(join(directory.path, 'mirror'));
    const batches = batchesOf(4, 3);
    const mirror = createMirror(options);
    for (const batch of batches) takeBatch(mirror, batch);
    await mirror[Symbol.asyncDispose]();
    await openAndCheck(options, batches, 3);
    expect(Mirror.open(options, 2)).toEqual({ invalid: 'it is ahead of the log' });
    expect(Mirror.open(options, 4)).toMatchObject({ invalid: expect.stringContaining('ends at batch 3') as string });
  });
});
