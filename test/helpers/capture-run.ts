/** Capture itself, from its start to its end: keeper process, tail, diff, mirror and log. */
import { Capture } from '../../src/capture/capture.ts';
import type { FromCapture } from '../../src/capture/protocol.ts';

export class CaptureRun {
  /** Null after an orderly end, else why it ended. */
  readonly ended: Promise<unknown>;
  readonly messages: FromCapture[] = [];
  readonly #capture: Capture;
  #seen: () => void = () => {};

  constructor(hive: string, stateDir: string) {
    const options = {
      hive,
      stateDir,
      durability: 'os',
      onGap: 'fail',
      tables: { include: null, exclude: [] },
      maxWalBytes: 4 << 20,
      keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
      retention: { maxAgeMs: null, maxBytes: null },
    } as const;
    this.#capture = new Capture(options, {
      post: (message) => {
        this.messages.push(message);
        this.#seen();
      },
    });
    this.ended = this.#capture.run().then(
      () => null,
      (error: unknown) => error ?? 'failed',
    );
  }

  /** How it began; null: it ended before. */
  async ready(): Promise<string | null> {
    const began = new Promise<string>((resolve) => {
      const look = (): void => {
        const found = this.messages.find((message) => message.type === 'ready');
        if (found !== undefined) resolve(found.beginning);
      };
      this.#seen = look;
      look();
    });
    return Promise.race([began, this.ended.then(() => null)]);
  }

  /** Takes what is committed, then ends. Gives the error of its end. */
  async stop(): Promise<unknown> {
    this.#capture.stop();
    return this.ended;
  }
}
