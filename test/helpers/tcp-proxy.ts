/** A TCP proxy in front of a server, to cut connections or to stop answering. */
import { createServer, connect, type Socket } from 'node:net';

export interface TcpProxy {
  readonly port: number;
  /** Cuts every connection now (RST). */
  cut(): void;
  /** Cuts the connection after so many more bytes went to the server. */
  cutAfter(bytes: number): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export const startTcpProxy = (target: { host: string; port: number }): Promise<TcpProxy> =>
  new Promise((resolve, reject) => {
    const sockets = new Set<Socket>();
    let left = Infinity;
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
      upstream.on('close', () => client.destroy());
      client.on('close', () => upstream.destroy());
      upstream.pipe(client);
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
        [Symbol.asyncDispose]: () => {
          cut();
          return new Promise((done) => server.close(() => done()));
        },
      });
    });
  });
