/** Logs on stderr: JSON in a pipe, one coloured line each on a terminal. stdout belongs to events. */
import { destination, type Level, type Logger, pino, stdSerializers } from 'pino';
import { PinoPretty } from 'pino-pretty';

export type { Logger } from 'pino';

export interface LoggerOptions {
  readonly level: Level | 'silent';
  /** Default: stderr is a terminal. */
  readonly pretty?: boolean;
}

/**
 * Messages are fixed texts; data stands in fields. Row values and secrets never go in. Errors are logged as their message;
 * with their stack only at level debug and trace.
 */
export const makeLogger = ({ level, pretty = process.stderr.isTTY }: LoggerOptions): Logger => {
  const traces = level === 'debug' || level === 'trace';
  const base = {
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    serializers: { err: traces ? stdSerializers.err : messageOf },
  };
  // Synchronous: the last line before an end is the one that is needed.
  if (!pretty) return pino(base, destination({ fd: 2, sync: true }));
  return pino(
    base,
    PinoPretty({
      destination: 2,
      sync: true,
      translateTime: 'SYS:HH:MM:ss.l',
      singleLine: !traces,
      ignore: `component,sink,code,hint,reason${traces ? '' : ',err'}`,
      messageFormat: formatMessage,
      colorize: true,
    }),
  );
};

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** `sink reporting: the sink stopped: no right to write [SINK_DENIED] Check user, password and rights.` */
const formatMessage = ({ component, sink, msg, err, reason = err, code, hint }: Record<string, unknown>): string => {
  const who = [component, sink].filter((part) => typeof part === 'string').join(' ');
  const parts = [who, msg, reason].filter((part) => typeof part === 'string' && part !== '');
  return `${parts.join(': ')}${typeof code === 'string' ? ` [${code}]` : ''}${typeof hint === 'string' ? ` ${hint}` : ''}`;
};
