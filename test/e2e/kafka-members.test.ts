/** A real Hive in Kafka, and out of it again: members of a group come, go and are killed, and each change is applied once. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { kafkaPossible, startKafka } from '../helpers/kafka-server.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { Random } from '../helpers/random.ts';
import { until } from '../helpers/until.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const KILLS = Number(process.env['WAGGLE_KILLS'] ?? 3);
const SEED = Number(process.env['WAGGLE_KILL_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const absent = !serversRequired() && !(kafkaPossible() && (await postgresBinaries()) !== null);

const NEVER_BACK = `
  CREATE FUNCTION never_back() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.seq <= OLD.seq THEN RAISE EXCEPTION 'back from % to %', OLD.seq, NEW.seq; END IF; RETURN NEW; END $$;
  DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'seq' AND table_name <> 'waggle_checkpoint'
    LOOP EXECUTE format('CREATE TRIGGER never_back BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION never_back()', name); END LOOP;
  END $$`;

it.skipIf(absent)(
  `applies each change once with 1, 3, then 2 members and ${KILLS} kills (seed ${SEED})`,
  { timeout: 240_000 + KILLS * 10_000 },
  async () => {
    const random = new Random(SEED);
    await using kafka = await startKafka();
    await using postgres = await startPostgres();
    const client = new Client({ connectionString: postgres.url });
    client.on('error', () => {});
    await client.connect();
    await using scene = new DaemonScene({
      sinks: {
        stream: `{ type: kafka, brokers: "${kafka.broker}", topics: { partitions: 3 }, tables: { "*": { columns: { add: { seq: $seq } } } } }`,
        server: `{ type: postgres, url: "${postgres.url}", enabled: false }`,
      },
    });
    await HiveApplication.run({ dir: scene.app, ops: 60, seed: SEED });
    const daemon = await scene.startReady();
    // The rows that were there before all changes.
    await scene.settled(['stream'], 120_000);
    const members: WaggleProcess[] = [];
    const join = (): void => void members.push(new WaggleProcess(['sink', 'server', '--from', 'stream', '-c', scene.config]));
    await using _end = { [Symbol.asyncDispose]: async () => void (await Promise.all(members.map((member) => member[Symbol.asyncDispose]()))) };
    const applied = async (): Promise<number> => {
      const { rows } = await client.query<{ sum: string | null }>('SELECT sum(seq) FROM waggle_checkpoint').catch(() => ({ rows: [] }));
      return Number(rows[0]?.sum ?? 0);
    };
    const goesOn = async (): Promise<void> => {
      const before = await applied();
      await until('the members to go on', async () => (await applied()) > before + 20, {
        deadlineMs: 90_000,
        told: () => members.map(({ stderr }) => stderr.slice(-1500)).join('\n--\n'),
      });
    };
    join();
    await using application = HiveApplication.start({ dir: scene.app, ops: 1_000_000, seed: SEED + 1, rate: 20, ddlAt: 60 });
    await goesOn();
    // Each change of a row has a higher seq than the one before: a record that is applied a second time is refused, and ends its member.
    await client.query(NEVER_BACK);
    join();
    join();
    await goesOn();
    for (let kill = 0; kill < KILLS; kill += 1) {
      const [victim] = members.splice(random.int(members.length), 1);
      await victim!.kill();
      join();
      if (random.chance(0.5)) await goesOn();
      await delay(random.int(500));
    }
    const leaving = members.shift()!;
    await leaving.line('it to be one of the group', ({ msg }) => msg === 'these partitions are ours', 90_000);
    expect(await leaving.stop()).toEqual({ code: 0, signal: null });
    await goesOn();
    await application.kill();
    await scene.settled(['stream'], 120_000);
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    let last = '';
    await until(
      'equal tables',
      async () => {
        const difference = await scene.comparePostgres(postgres.url);
        last = JSON.stringify(difference);
        return difference.missing === EQUAL.missing && difference.surplus === EQUAL.surplus;
      },
      { deadlineMs: 120_000, everyMs: 500, told: () => last + members.map(({ stderr }) => stderr.slice(-1500)).join('\n--\n') },
    );
    for (const member of members) expect(member.exit).toBe(null);
    await client.end();
  },
);
