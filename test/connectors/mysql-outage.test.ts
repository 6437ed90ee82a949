/** Cut connections, a killed server: each batch is applied once, counted by triggers. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createSink } from '../../connectors/mysql/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { startTcpProxy } from '../helpers/tcp-proxy.ts';
import { MARIADB_ABSENT, MysqlScene } from './mysql-scene.ts';
import { batchOf, checkpointAt, contextOf, sinkTable, upsert } from './sink-changes.ts';

describe.skipIf(MARIADB_ABSENT)('mysql and outages', () => {
  const scene = MysqlScene.use();

  /** Applies batch after batch through whatever `disturb` does; then each batch must have been applied exactly once. */
  const applyThrough = async (
    name: string,
    options: { readonly port: number; readonly batches: number; disturb(attempt: number): Promise<void> | void; afterFailure?(): Promise<void> },
  ): Promise<number> => {
    const sink = createSink({ host: '127.0.0.1', port: options.port, user: 'root', database: 'waggle' });
    // Counts each write: exactly once means that a batch that was committed is not applied again.
    await scene.run(
      `CREATE TABLE ${name} (id bigint PRIMARY KEY, batch bigint); CREATE TABLE ${name}_log (id bigint, batch bigint);
       CREATE TRIGGER ${name}_insert AFTER INSERT ON ${name} FOR EACH ROW INSERT INTO ${name}_log VALUES (NEW.id, NEW.batch);
       CREATE TRIGGER ${name}_update AFTER UPDATE ON ${name} FOR EACH ROW INSERT INTO ${name}_log VALUES (NEW.id, NEW.batch)`,
    );
    const table = sinkTable(name, [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'batch', type: 'INTEGER' },
    ]);
    const context = contextOf(name);
    let [seq, failures] = [0, 0];
    for (let attempt = 0; seq < options.batches; attempt += 1) {
      try {
        const checkpoint = await sink.open(context);
        if (checkpoint !== null) seq = checkpoint.seq;
        await options.disturb(attempt);
        const next = seq + 1;
        const parts = Array.from({ length: 4 }, (_, part) => Array.from({ length: 50 }, (_row, row) => upsert(table, [part * 50 + row, next])));
        await sink.apply(batchOf(parts, checkpointAt(next)));
        seq = next;
      } catch (error) {
        failures += 1;
        if (!(error instanceof WaggleError && error.retryable)) throw error;
        await options.afterFailure?.();
      } finally {
        await sink.close();
      }
    }
    await scene.connect();
    // Not through what still disturbs.
    const undisturbed = createSink({ url: scene.server.url });
    const last = (await undisturbed.open(context))!.seq;
    await undisturbed.close();
    expect(await scene.select(`SELECT batch, count(*) AS n FROM ${name}_log GROUP BY batch ORDER BY 0 + batch`)).toEqual(
      Array.from({ length: last }, (_, index) => ({ batch: String(index + 1), n: '200' })),
    );
    expect(await scene.select(`SELECT DISTINCT batch FROM ${name}`)).toEqual([{ batch: String(last) }]);
    return failures;
  };

  it('loses and doubles nothing when connections are cut at any byte or killed', { timeout: 120_000 }, async () => {
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: scene.server.port });
    const failures = await applyThrough('cut', {
      port: proxy.port,
      batches: 30,
      disturb: (attempt) => {
        if (attempt % 3 === 0) proxy.cutAfter(Math.floor(Math.random() * 9000));
        if (attempt % 3 === 1)
          setTimeout(() => {
            const others = `SELECT id FROM information_schema.PROCESSLIST WHERE id <> CONNECTION_ID() AND COMMAND <> 'Daemon' AND USER = 'root'`;
            void scene
              .select(others)
              .then((rows) => Promise.all(rows.map((row) => scene.run(`KILL CONNECTION ${row['id']}`))))
              .catch(() => {});
          }, Math.random() * 15);
      },
    });
    expect(failures).toBeGreaterThan(5);
  });

  it('loses and doubles nothing when the server is killed and started again under load', { timeout: 240_000 }, async () => {
    const kills = Number(process.env['WAGGLE_SERVER_KILLS'] ?? 3);
    let [killing, isDead] = [Promise.resolve(), false];
    let killed = 0;
    const failures = await applyThrough('restarted', {
      port: scene.server.port,
      batches: kills * 20,
      disturb: async (attempt) => {
        // The death falls into the batch that goes on then, or this one meets a dead scene.server. Only a failure brings it back.
        await killing;
        if (attempt % 15 !== 5 || killed === kills) return;
        killed += 1;
        isDead = true;
        killing = delay(Math.random() * 20).then(() => scene.server.kill());
      },
      afterFailure: async () => {
        await killing;
        if (isDead) await scene.server.start();
        isDead = false;
      },
    });
    expect(killed).toBe(kills);
    expect(failures).toBeGreaterThanOrEqual(kills);
  });
});
