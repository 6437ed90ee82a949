/**
 * The keeper's unix socket in the spool directory (mode 0700: nobody else gets there). The address of such a socket holds
 * 108 bytes and a state directory may be deeper: then it is reached through an open descriptor of its directory.
 */
import { closeSync, openSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemErrorCode } from '../support/errors.ts';

const NAME = 'keeper.sock';
const ADDRESS_BYTES_MAX = 107;

export const socketPath = (dir: string): string => join(dir, NAME);

interface Address extends Disposable {
  readonly path: string;
}

/** To be kept open until the socket is connected or bound. */
const addressOf = (dir: string): Address => {
  const path = socketPath(dir);
  if (Buffer.byteLength(path) <= ADDRESS_BYTES_MAX) return { path, [Symbol.dispose]: () => {} };
  const fd = openSync(dir, 'r');
  return { path: `/proc/self/fd/${fd}/${NAME}`, [Symbol.dispose]: () => closeSync(fd) };
};

/** Null: nobody listens (also where a dead keeper left its socket). Throws what the system throws else. */
export const connectSocket = async (dir: string): Promise<Socket | null> => {
  try {
    using address = addressOf(dir);
    const socket = connect(address.path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.removeAllListeners('error');
    return socket;
  } catch (error) {
    if (['ENOENT', 'ECONNREFUSED', 'ENOTDIR', 'ECONNRESET'].includes(systemErrorCode(error) ?? '')) return null;
    throw error;
  }
};

/** The caller holds the lock of the directory: a socket that is there is stale. Rejects with the system's error. */
export const listenSocket = async (dir: string, connected: (socket: Socket) => void): Promise<Server> => {
  rmSync(socketPath(dir), { force: true });
  const address = addressOf(dir);
  const server = createServer(connected);
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
    server.listen(address.path);
  });
  // The descriptor of a deep directory stays open for as long as the process lives.
  return server;
};
