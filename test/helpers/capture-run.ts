/** One stretch of capture in this process, with the real keeper: from its start to its end. */
import { Capture } from '../../src/capture/capture.ts';
import type { CaptureOptions, FromCapture } from '../../src/capture/protocol.ts';

export type Durability = CaptureOptions['durability'];

export class CaptureRun {
  readonly messages: FromCapture[] = [];
  /** Null: an orderly end; else why it ended. */
  readonly ended: Promise<unknown>;
  readonly #capture: Capture;
  readonly #waiting = new Set<() => void>();

  constructor(options: Pick<CaptureOptions, 'hive' | 'stateDir'> & Partial<CaptureOptions>, onHead: (seq: number) => void = () => {}) {
    this.#capture = new Capture(
      {
        durability: 'os',
        onGap: 'fail',
        tables: { include: null, exclude: [] },
        maxWalBytes: 1 << 20,
        keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
        retention: { maxAgeMs: null, maxBytes: null },
        ...options,
      },
      {
        post: (message) => {
          this.messages.push(message);
          if (message.type === 'head') onHead(message.seq);
          for (const look of this.#waiting) look();
        },
      },
    );
    this.ended = this.#capture.run().then(
      () => null,
      (error: unknown) => error ?? new Error('failed'),
    );
  }

  /** How it began; null: it ended before. */
  async ready(): Promise<string | null> {
    const isThere = await this.#until((message) => message.type === 'ready');
    return isThere ? (this.messages.find((message) => message.type === 'ready')?.beginning ?? null) : null;
  }

  /** Throws where it did not begin or end as it should. */
  async readyAndStopped(): Promise<void> {
    if ((await this.ready()) === null) throw await this.ended;
    const error = await this.stop();
    if (error !== null) throw error;
  }

  /** The log's head has this seq or a later one; false: it ended before. */
  head(seq: number): Promise<boolean> {
    return this.#until((message) => (message.type === 'head' && message.seq >= seq) || (message.type === 'ready' && message.headSeq >= seq));
  }

  /** Takes what is committed, then ends. Gives the error of its end, or null. */
  stop(): Promise<unknown> {
    this.#capture.stop();
    return this.ended;
  }

  async #until(isIt: (message: FromCapture) => boolean): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const look = (): void => {
      if (this.messages.some(isIt)) resolve(true);
    };
    this.#waiting.add(look);
    look();
    try {
      return await Promise.race([promise, this.ended.then(() => false)]);
    } finally {
      this.#waiting.delete(look);
    }
  }
}
