/** Logs on stderr: JSON in a pipe, pretty on a terminal. stdout belongs to events. */
import { destination, type Level, type Logger, pino } from 'pino';
import { PinoPretty } from 'pino-pretty';

export type { Logger } from 'pino';

/** Messages are fixed texts; data stands in fields. Row values and secrets never go in. */
export const makeLogger = (options: { level: Level | 'silent'; pretty?: boolean }): Logger => {
  const pretty = options.pretty ?? process.stderr.isTTY;
  const base = { level: options.level, base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` };
  // Synchronous: the last line before an end is the one that is needed.
  if (!pretty) return pino(base, destination({ fd: 2, sync: true }));
  return pino(base, PinoPretty({ destination: 2, sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'component', messageFormat: '{if component}{component}: {end}{msg}', colorize: true }));
};
