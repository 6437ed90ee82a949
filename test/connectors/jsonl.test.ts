import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import { toSinkError } from '../../connectors/jsonl/errors.ts';
import { createSink } from '../../connectors/jsonl/sink.ts';
import { options } from '../../connectors/jsonl/options.ts';
import { StreamSink } from '../../connectors/jsonl/stream-sink.ts';
import { VERSION } from '../../src/support/version.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { batchOf, brokenBatch, checkpointAt, contextOf, remove, schemaChange, sinkTable, truncate, upsert } from './sink-changes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
let counter = 0;
const freshFile = (): string => join(directory.path, `d${(counter += 1)}`, 'changes.jsonl');
const linesOf = (file: string): { seq: number; op: string; key: { id: string } | null }[] =>
  existsSync(file)
    ? readFileSync(file, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line))
    : [];
const idsOf = (file: string): (string | undefined)[] => linesOf(file).map((line) => line.key?.id);

const table = sinkTable('accounts', [
  { name: 'id', key: true },
  { name: 'v', type: 'BLOB' },
]);
const row = (id: string): ReturnType<typeof upsert> => upsert(table, [id, new Uint8Array([1])], 'c');

describe('jsonl', () => {
  it('knows the version of the package', () => {
    expect(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version).toBe(VERSION);
  });

  it('writes each change as one line, in order', async () => {
    const file = freshFile();
    const sink = createSink({ file });
    expect(await sink.open(contextOf('s'))).toBeNull();
    await sink.apply(
      batchOf(
        [
          [schemaChange(null, table), row('a\nb')],
          [remove(table, ['a\nb']), truncate(table)],
        ],
        checkpointAt(4),
      ),
    );
    await sink.close();
    expect(linesOf(file).map((line) => line.op)).toEqual(['s', 'c', 'd', 't']);
    const seqs = linesOf(file).map((line) => line.seq);
    expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
    expect(await sink.open(contextOf('s'))).toEqual(checkpointAt(4));
    await sink.close();
  });

  it('cuts back what stands behind the checkpoint', async () => {
    const file = freshFile();
    const sink = createSink({ file });
    await sink.open(contextOf('s'));
    await sink.apply(batchOf([[row('1')]], checkpointAt(1)));
    const many = Array.from({ length: 2000 }, (_, index) => row(`x${index}`));
    await expect(sink.apply(brokenBatch([many, many], checkpointAt(2)))).rejects.toMatchObject({ code: 'SINK_FAILED' });
    await sink.close();
    expect(linesOf(file).length).toBeGreaterThan(1);
    appendFileSync(file, '{"half a li');
    expect(await sink.open(contextOf('s'))).toEqual(checkpointAt(1));
    await sink.apply(batchOf([[row('2')]], checkpointAt(2)));
    await sink.close();
    expect(idsOf(file)).toEqual(['1', '2']);
  });

  it('cuts back a first batch that broke off, and keeps what stood in the file before', async () => {
    const file = freshFile();
    mkdirSync(join(file, '..'));
    writeFileSync(file, 'foreign line without an end');
    const sink = createSink({ file });
    await sink.open(contextOf('s'));
    await expect(sink.apply(brokenBatch([[row('1')]], checkpointAt(1)))).rejects.toThrow('broke off');
    await sink.open(contextOf('s'));
    await sink.apply(batchOf([[row('1')]], checkpointAt(1)));
    await sink.close();
    expect(readFileSync(file, 'utf8').split('\n').length).toBe(3);
  });

  it('goes on when the file was moved away, shortened or replaced', async () => {
    const file = freshFile();
    const sink = createSink({ file });
    const append = async (id: string, seq: number): Promise<void> => {
      await sink.open(contextOf('s'));
      await sink.apply(batchOf([[row(id)]], checkpointAt(seq)));
      await sink.close();
    };
    await append('1', 1);
    renameSync(file, `${file}.moved`);
    await append('2', 2);
    expect(idsOf(file)).toEqual(['2']);
    await append('3', 3);
    truncateSync(file, statSync(file).size - 5);
    await append('4', 4);
    const lines = readFileSync(file, 'utf8').split('\n');
    expect(lines.length).toBe(4);
    expect(JSON.parse(lines[2]!).key.id).toBe('4');
  });

  describe('while it is open', () => {
    const openWith = async (
      file: string,
    ): Promise<{
      sink: ReturnType<typeof createSink>;
      warnings: { seq: number; msg: string }[];
      append: (id: string, seq: number) => Promise<void>;
    }> => {
      const sink = createSink({ file });
      const warnings: { seq: number; msg: string }[] = [];
      const logger = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(JSON.parse(line)) });
      await sink.open({ ...contextOf('s'), logger });
      return { sink, warnings, append: (id, seq) => sink.apply(batchOf([[row(id)]], checkpointAt(seq))) };
    };

    it.each(['removed', 'removed with its directory', 'moved'])('begins a new file and says so when the file was %s', async (how) => {
      const file = freshFile();
      const { sink, warnings, append } = await openWith(file);
      await append('1', 1);
      await append('2', 2);
      if (how === 'moved') renameSync(file, `${file}.moved`);
      else rmSync(how === 'removed' ? file : dirname(file), { recursive: true });
      await append('3', 3);
      await append('4', 4);
      expect(idsOf(file)).toEqual(['3', '4']);
      expect(warnings).toMatchObject([{ level: 40, seq: 3, file }]);
      expect(idsOf(`${file}.moved`)).toEqual(how === 'moved' ? ['1', '2'] : []);
      await sink.close();
      const again = await openWith(file);
      await again.append('5', 5);
      await again.sink.close();
      expect(idsOf(file)).toEqual(['3', '4', '5']);
      expect(again.warnings).toEqual([]);
    });

    it('goes on at the end of a file that took its place, and of one that was shortened', async () => {
      const file = freshFile();
      const { sink, warnings, append } = await openWith(file);
      await append('1', 1);
      writeFileSync(`${file}.new`, 'foreign');
      renameSync(`${file}.new`, file);
      await append('2', 2);
      expect(readFileSync(file, 'utf8')).toMatch(/^foreign\n\{.*\}\n$/);
      truncateSync(file, 0);
      await append('3', 3);
      await sink.close();
      expect(idsOf(file)).toEqual(['3']);
      expect(warnings).toMatchObject([{ seq: 2 }, { seq: 3 }]);
    });

    it('does not confirm a batch that went into a removed file', async () => {
      const file = freshFile();
      const { sink, append } = await openWith(file);
      await append('1', 1);
      const parts = async function* (): AsyncGenerator<ReturnType<typeof row>[]> {
        yield [row('2')];
        rmSync(file);
      };
      await expect(sink.apply({ parts, checkpoint: checkpointAt(2) })).rejects.toMatchObject({ code: 'SINK_FAILED', retryable: true });
      await sink.close();
      expect(await sink.open(contextOf('s'))).toEqual(checkpointAt(1));
      await append('2', 2);
      await sink.close();
      expect(idsOf(file)).toEqual(['2']);
    });

    it.each(['removed', 'emptied'])('says so at the start when the file was %s meanwhile', async (how) => {
      const file = freshFile();
      const first = await openWith(file);
      await first.append('1', 1);
      await first.sink.close();
      if (how === 'removed') rmSync(file);
      else truncateSync(file, 0);
      const second = await openWith(file);
      await second.append('2', 2);
      await second.sink.close();
      expect(idsOf(file)).toEqual(['2']);
      expect(first.warnings).toEqual([]);
      expect(second.warnings).toMatchObject([{ level: 40, seq: 2, file }]);
    });
  });

  it('rotates between batches and keeps so many files', async () => {
    const file = freshFile();
    const sink = createSink({ file, rotate: { size: 600, keep: 2 } });
    await sink.open(contextOf('s'));
    for (let seq = 1; seq <= 9; seq += 1) await sink.apply(batchOf([[row(`${seq}a`), row(`${seq}b`)]], checkpointAt(seq)));
    await sink.close();
    const files = [`${file}.2`, `${file}.1`, file].map(idsOf);
    const all = files.flat();
    expect(files.every((ids) => ids.length % 2 === 0 && ids.length > 0)).toBe(true);
    expect(all).toEqual(Array.from({ length: all.length / 2 }, (_, index) => index + 10 - all.length / 2).flatMap((seq) => [`${seq}a`, `${seq}b`]));
    expect(existsSync(`${file}.3`)).toBe(false);
  });

  it('lets a second runner take over, and keeps other sinks away', async () => {
    const file = freshFile();
    const [first, second] = [createSink({ file }), createSink({ file })];
    await first.open(contextOf('s'));
    await second.open(contextOf('s'));
    await expect(first.apply(batchOf([[row('late')]], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_FENCED' });
    await first.close();
    await second.apply(batchOf([[row('1')]], checkpointAt(1)));
    await second.close();
    expect(idsOf(file)).toEqual(['1']);
    await expect(createSink({ file }).open(contextOf('other'))).rejects.toMatchObject({
      code: 'SINK_FENCED',
      message: expect.stringContaining('belongs to the sink s'),
    });
  });

  it('tells what is wrong with the file', async () => {
    await expect(createSink({ file: directory.path }).open(contextOf('s'))).rejects.toMatchObject({ code: 'SINK_DENIED' });
    await expect(createSink({ file: '/dev/null' }).open(contextOf('s'))).rejects.toMatchObject({ code: 'SINK_DENIED' });
    const file = freshFile();
    mkdirSync(join(file, '..'));
    writeFileSync(`${file}.waggle`, 'not json');
    await expect(createSink({ file }).open(contextOf('s'))).rejects.toMatchObject({
      code: 'SINK_DENIED',
      hint: expect.stringContaining('Move the file away'),
    });
  });

  it('says DISK_FULL when nothing more can be written', () => {
    expect(toSinkError(Object.assign(new Error('write'), { code: 'ENOSPC' }), 'jsonl x')).toMatchObject({ code: 'DISK_FULL', retryable: true });
  });

  it('writes to a stream and keeps the checkpoint in the state directory', async () => {
    const stateDir = join(directory.path, 'state');
    mkdirSync(stateDir);
    const stream = new PassThrough();
    const sink = new StreamSink(stream, 'jsonl stdout');
    expect(await sink.open(contextOf('s', stateDir))).toBeNull();
    await sink.apply(batchOf([[row('1'), row('2')]], checkpointAt(2)));
    await sink.close();
    expect(
      String(stream.read())
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).key.id),
    ).toEqual(['1', '2']);
    expect(await sink.open(contextOf('s', stateDir))).toEqual(checkpointAt(2));
    stream.destroy();
    await expect(sink.apply(batchOf([[row('3')]], checkpointAt(3)))).rejects.toMatchObject({ code: 'SINK_CLOSED', retryable: false });
    await sink.close();
    expect(await sink.open(contextOf('s', stateDir))).toEqual(checkpointAt(2));
  });

  it('says SINK_CLOSED when the reader of the pipe goes away', async () => {
    const script = `
      import { createSink } from '${new URL('../../connectors/jsonl/sink.ts', import.meta.url).href}';
      import { batchOf, checkpointAt, contextOf, sinkTable, upsert } from '${new URL('./sink-changes.ts', import.meta.url).href}';
      const table = sinkTable('t', [{ name: 'id', key: true }]);
      const sink = createSink({ stdout: true });
      await sink.open(contextOf('s', process.argv[1]));
      const part = Array.from({ length: 1000 }, (_, i) => upsert(table, [String(i)]));
      try { for (let seq = 1; ; seq += 1) await sink.apply(batchOf([part], checkpointAt(seq))); }
      catch (error) { await sink.close(); console.error(error.code); }`;
    const stateDir = join(directory.path, 'pipe-state');
    mkdirSync(stateDir);
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, stateDir], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.once('data', () => child.stdout.destroy());
    let errors = '';
    child.stderr.on('data', (chunk) => (errors += chunk));
    const status = await new Promise((resolve) => child.once('close', resolve));
    expect(errors.trim()).toBe('SINK_CLOSED');
    expect(status).toBe(0);
  });

  it('checks its options', () => {
    expect(options.safeParse({}).success).toBe(false);
    expect(options.safeParse({ file: 'a', stdout: true }).success).toBe(false);
    expect(options.safeParse({ stdout: true, rotate: { size: 1 } }).success).toBe(false);
    expect(options.safeParse({ file: 'a', rotate: { size: 'big' } }).success).toBe(false);
    expect(options.parse({ file: 'a', rotate: { size: '1.5 MB' } }).rotate?.keep).toBe(5);
  });
});
