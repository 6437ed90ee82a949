/** A TCP proxy in front of a server, to cut connections or to stop answering. */
import { createServer, connect, type Socket } from 'node:net';

export interface TcpProxy {
  readonly port: number;
  /** Cuts every connection now (RST). */
  cut(): void;
  /** Cuts the connection after so many more bytes went to the server. */
  cutAfter(bytes: number): void;
  /** Keeps what the server says, until the function that it gives is called: then it comes at once. */
  hold(): () => void;
  [Symbol.asyncDispose](): Promise<void>;
}

export const startTcpProxy = (target: { host: string; port: number }): Promise<TcpProxy> =>
  new Promise((resolve, reject) => {
    const sockets = new Set<Socket>();
    let left = Infinity;
    let held: (() => void)[] | null = null;
    const cut = (): void => {
      left = Infinity;
      for (const socket of sockets) socket.resetAndDestroy();
    };
    const server = createServer((client) => {
      const upstream = connect(target.port, target.host);
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => sockets.delete(socket));
      }
      upstream.on('close', () => (held === null ? client.destroy() : held.push(() => client.end())));
      client.on('close', () => upstream.destroy());
      let kept: Buffer[] = [];
      upstream.on('data', (chunk: Buffer) => {
        kept.push(chunk);
        const say = (): void => {
          if (kept.length > 0) client.write(Buffer.concat(kept));
          kept = [];
        };
        if (held === null) say();
        else held.push(say);
      });
      client.on('data', (chunk: Buffer) => {
        left -= chunk.length;
        if (left < 0) cut();
        else upstream.write(chunk);
      });
    });
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (typeof address !== 'object' || address === null) return reject(new Error('no port'));
      resolve({
        port: address.port,
        cut,
        cutAfter: (bytes) => void (left = bytes),
        hold: () => {
          held = [];
          return () => {
            const waiting = held ?? [];
            held = null;
            for (const say of waiting) say();
          };
        },
        [Symbol.asyncDispose]: () => {
          cut();
          return new Promise((done) => server.close(() => done()));
        },
      });
    });
  });
