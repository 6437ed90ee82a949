import { statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Value } from '../../src/change/table.ts';
import { DeadLetterStore } from '../../src/pipeline/dead-letter-store.ts';
import { decodeLetter, encodeLetter } from '../../src/pipeline/letter-codec.ts';
import type { SinkRowChange } from '../../src/pipeline/sink.ts';
import { Random } from '../helpers/random.ts';
import { RunnerScene } from '../helpers/runner-scene.ts';
import { SqliteTestSink } from '../helpers/sqlite-test-sink.ts';

const isPoison = (value: Value): boolean => typeof value === 'string' && /^text [4-9]/.test(value);
const refusePoison = ({ after }: SinkRowChange): boolean => after?.some(isPoison) === true;

/** As `waggle dead-letters` does it: over a connection of its own. */
const fromOutside = (scene: RunnerScene, work: (store: DeadLetterStore) => void): void => {
  using store = DeadLetterStore.open(scene.lettersPath);
  work(store);
};

describe('a refused row', () => {
  test.each([
    ['the sink names it', true],
    ['it is looked for', false],
  ])('is kept aside, the others of its transaction are applied together: %s', async (_name, namesRefused) => {
    using scene = new RunnerScene();
    scene.sink.refuses = refusePoison;
    scene.sink.namesRefused = namesRefused;
    const { runner, stop } = scene.start({ fill: false, deadLetters: { store: scene.letters, limit: 100 } });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const applied: number[] = [];
    scene.sink.onApplied = ({ seq }) => applied.push(seq);
    const random = new Random(40);
    for (let index = 0; index < 30; index += 1) scene.source.commit(random);
    const before = scene.source.writer.headSeq;
    scene.source.commit(random, 40);
    await scene.caughtUp(runner);
    const letters = scene.letters.list('test');
    expect(letters.length).toBeGreaterThan(0);
    expect(applied.filter((seq) => seq > before).every((seq) => seq === scene.source.writer.headSeq)).toBe(true);
    expect(letters[0]).toMatchObject({ error: { code: 'SINK_ROW_REFUSED', message: 'refused by the test' }, retry: false });
    expect(scene.sink.calls.rehearse > 0).toBe(!namesRefused);
    expect(statSync(scene.lettersPath).mode & 0o777).toBe(0o600);
    await stop();
  });

  test.each([1, 2, 3, 4, 5, 6])('only rows with letters differ; a retry brings the sink to the hive, seed %i', async (seed) => {
    using scene = new RunnerScene();
    scene.sink.refuses = refusePoison;
    const random = new Random(seed * 100);
    scene.source.seed(random, 60);
    const deadLetters = { store: scene.letters, limit: 10_000 };
    let running = scene.start({ deadLetters });
    for (let round = 0; round < 12; round += 1) {
      for (let index = 0; index < 12; index += 1) scene.source.commit(random, 1 + random.int(12));
      if (random.chance(0.3)) scene.source.recreate('items');
      if (random.chance(0.3)) scene.source.renumber();
      await scene.caughtUp(running.runner);
      if (!random.chance(0.3)) continue;
      await running.stop();
      running = scene.start({ deadLetters });
    }
    await scene.caughtUp(running.runner);
    const { source, sink } = scene.tables();
    const text = (row: unknown): string => JSON.stringify(row, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
    const letters = scene.letters.list('test');
    expect(letters.length).toBeGreaterThan(0);
    for (const [table, rows] of Object.entries(source)) {
      const there = new Set(sink[table]!.map(text));
      const missing = rows.filter((row) => !there.has(text(row))).length;
      expect(missing).toBeLessThanOrEqual(letters.filter((letter) => letter.table === table).length);
      expect(sink[table]!.flat().some((value) => isPoison(value as Value))).toBe(false);
    }
    scene.sink.refuses = () => false;
    fromOutside(scene, (store) => expect(store.askRetry('test', null)).toBe(letters.length));
    await scene.until(running.runner, () => scene.letters.count('test') === 0);
    await running.stop();
    const { source: wanted, sink: got } = scene.tables();
    expect(got).toEqual(wanted);
  });

  test('a retry that is refused again keeps the letter with the new reason', async () => {
    using scene = new RunnerScene();
    scene.sink.refuses = ({ table }) => table.name === 'notes';
    const { runner, stop } = scene.start({ deadLetters: { store: scene.letters, limit: 100 } });
    await scene.caughtUp(runner);
    const random = new Random(8);
    for (let index = 0; index < 5; index += 1) scene.source.commit(random);
    await scene.caughtUp(runner);
    const [first] = scene.letters.list('test');
    fromOutside(scene, (store) => store.askRetry('test', [first!.id]));
    const opened = scene.sink.calls.open;
    await scene.until(runner, () => scene.sink.calls.open > opened && scene.letters.asked('test').length === 0);
    expect(scene.letters.list('test').some(({ id }) => id === first!.id)).toBe(true);
    await stop();
  });

  test('a retry that was asked for while no daemon ran is done at the next start; a discarded row follows again', async () => {
    using scene = new RunnerScene();
    const deadLetters = { store: scene.letters, limit: 1000 };
    const random = new Random(9);
    scene.sink.refuses = refusePoison;
    const first = scene.start({ deadLetters });
    for (let index = 0; index < 60; index += 1) scene.source.commit(random);
    await scene.caughtUp(first.runner);
    await first.stop();
    expect(scene.letters.count('test')).toBeGreaterThan(0);
    scene.sink.refuses = () => false;
    fromOutside(scene, (store) => store.askRetry('test', null));
    const second = scene.start({ deadLetters });
    await scene.until(second.runner, () => scene.letters.count('test') === 0);
    await second.stop();
    expect(scene.tables().sink).toEqual(scene.tables().source);
  });

  test('a letter that was discarded lets the next change of its row pass, and none is lost in between', async () => {
    using scene = new RunnerScene();
    const random = new Random(14);
    scene.sink.refuses = refusePoison;
    const { runner, stop } = scene.start({ deadLetters: { store: scene.letters, limit: 1000 } });
    for (let round = 0; round < 60; round += 1) {
      scene.source.commit(random, 6);
      if (random.chance(0.5)) fromOutside(scene, (store) => store.discard('test', null));
      if (random.chance(0.5)) await scene.caughtUp(runner);
    }
    await scene.caughtUp(runner);
    scene.sink.refuses = () => false;
    // Whatever was discarded comes with its next change: here, of every row.
    fromOutside(scene, (store) => store.discard('test', null));
    scene.source.touchAll();
    await scene.caughtUp(runner);
    await stop();
    expect(scene.letters.count('test')).toBe(0);
    expect(scene.tables().sink).toEqual(scene.tables().source);
  });

  test('a sink that wants changes keeps every change of the row, in order', async () => {
    using scene = new RunnerScene();
    scene.sink = new SqliteTestSink('changes');
    const seqs: number[] = [];
    scene.sink.refuses = ({ table }) => table.name === 'pairs';
    const { runner, stop } = scene.start({ fill: false, deadLetters: { store: scene.letters, limit: 1000 } });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const random = new Random(10);
    for (let index = 0; index < 60; index += 1) scene.source.commit(random);
    await scene.caughtUp(runner);
    const kept = scene.letters.list('test');
    const perRow = Map.groupBy(kept, ({ row }) => row);
    expect([...perRow.values()].some((letters) => letters.length > 1)).toBe(true);
    scene.sink.refuses = ({ source }) => {
      seqs.push(source.seq!);
      return false;
    };
    fromOutside(scene, (store) => store.askRetry('test', null));
    await scene.until(runner, () => scene.letters.count('test') === 0);
    expect(seqs).toEqual(kept.map(({ seq }) => seq));
    await stop();
    expect(scene.tables().sink).toEqual(scene.tables().source);
  });

  test.each(['states', 'changes'] as const)('letters of rows that an emptied table had go with them, where the sink wants %s', async (wants) => {
    using scene = new RunnerScene();
    scene.sink = new SqliteTestSink(wants);
    scene.sink.refuses = ({ table }) => table.name === 'items';
    const { runner, stop } = scene.start({ fill: false, deadLetters: { store: scene.letters, limit: 100 } });
    await scene.until(runner, ({ state }) => state === 'streaming');
    scene.source.insertItem();
    scene.source.insertItem();
    await scene.caughtUp(runner);
    expect(scene.letters.count('test')).toBe(2);
    scene.source.recreate('items');
    scene.source.insertItem(77);
    await scene.caughtUp(runner);
    await scene.until(runner, () => scene.letters.count('test') === 1);
    expect(scene.letters.list('test').map(({ change }) => change.after!.rowid)).toEqual([77]);
    await stop();
  });

  test('with the limit the sink stops and says so', async () => {
    using scene = new RunnerScene();
    scene.sink.refuses = ({ table }) => table.name === 'items';
    scene.source.seed(new Random(11), 60);
    const { runner, stop } = scene.start({ deadLetters: { store: scene.letters, limit: 3 } });
    await scene.until(runner, ({ state }) => state === 'stopped');
    expect(runner.status.error).toMatchObject({ code: 'SINK_DEAD_LETTERS_FULL', message: expect.stringContaining('refused by the test') });
    expect(scene.letters.count('test')).toBe(3);
    await stop();
  });

  test('a kill between the letter and the batch loses neither', async () => {
    using scene = new RunnerScene();
    scene.sink.refuses = refusePoison;
    const random = new Random(12);
    let commits = 0;
    scene.sink.fault = (call) =>
      call === 'commit' && (commits += 1) % 3 === 0
        ? new Error('killed')
        : call === 'committed' && commits % 4 === 0
          ? new Error('killed behind')
          : null;
    const deadLetters = { store: scene.letters, limit: 1000 };
    const { runner, stop } = scene.start({ deadLetters });
    for (let index = 0; index < 80; index += 1) scene.source.commit(random);
    await scene.caughtUp(runner);
    scene.sink.fault = () => null;
    scene.sink.refuses = () => false;
    expect(scene.letters.count('test')).toBeGreaterThan(0);
    fromOutside(scene, (store) => store.askRetry('test', null));
    await scene.until(runner, () => scene.letters.count('test') === 0);
    await stop();
    expect(scene.tables().sink).toEqual(scene.tables().source);
  });

  test('is kept with every value as it is', async () => {
    using scene = new RunnerScene();
    scene.sink.refuses = () => true;
    const { runner, stop } = scene.start({ fill: false, deadLetters: { store: scene.letters, limit: 1000 } });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const random = new Random(13);
    for (let index = 0; index < 40; index += 1) scene.source.commit(random);
    await scene.caughtUp(runner);
    const letters = scene.letters.list('test');
    expect(letters.map(({ change }) => encodeLetter(decodeLetter(encodeLetter(change))))).toEqual(letters.map(({ change }) => encodeLetter(change)));
    const notes = letters.filter(({ change, table }) => table === 'notes' && change.after !== null);
    expect(notes.length).toBeGreaterThan(0);
    for (const { change, row } of notes) {
      expect(row).toBe(`rowid ${change.after!.rowid}`);
      expect(change.after!.values('bigint')).toEqual(scene.source.row('notes', BigInt(change.after!.rowid)));
    }
    await stop();
  });
});
