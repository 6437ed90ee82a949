/** Messages over a stream: one JSON object a line, in order. */
import type { Duplex } from 'node:stream';

/** Whoever does not read is let go of before what waits for it fills the memory. */
const QUEUED_BYTES_MAX = 4 * 1024 * 1024;
/** A process that was stopped (SIGSTOP) never answers the end. */
const END_PATIENCE_MS = 5000;

export interface ChannelListener<In> {
  /** Called synchronously for each message, in order; never after `closed`. */
  receive(message: In): void;
  /** Once, whoever closed it. `error`: the stream failed, or what came was no message. */
  closed(error: Error | null): void;
}

export class Channel<In, Out> {
  readonly #stream: Duplex;
  #isClosed = false;

  constructor(stream: Duplex, listener: ChannelListener<In>) {
    this.#stream = stream;
    let rest = '';
    let failure: Error | null = null;
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (this.#isClosed) return;
        let message: In;
        try {
          message = JSON.parse(line) as In;
        } catch (error) {
          stream.destroy(error as Error);
          return;
        }
        listener.receive(message);
      }
    });
    stream.on('error', (error) => (failure = error));
    // The other side has ended its half: there is nothing to say to it any more.
    stream.on('end', () => stream.destroy());
    stream.on('close', () => {
      this.#isClosed = true;
      listener.closed(failure);
    });
  }

  /** `then` is called when the message has left this process, or cannot any more. */
  send(message: Out, then: () => void = () => {}): void {
    if (this.#isClosed || this.#stream.destroyed || this.#stream.writableEnded) return then();
    // One message may be as long as it is (a `ready` with many segments).
    if (this.#stream.writableLength > QUEUED_BYTES_MAX) {
      this.#stream.destroy(new Error('the other side does not read'));
      return then();
    }
    this.#stream.write(`${JSON.stringify(message)}\n`, () => then());
  }

  /** What was sent still goes out, if the other side reads it. */
  end(): void {
    this.#stream.end();
    setTimeout(() => this.#stream.destroy(), END_PATIENCE_MS).unref();
  }
}
