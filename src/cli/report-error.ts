/** How an error ends the program: `waggle: <message> [CODE]`, its hint below, the code's exit status. */
import { WaggleError } from '../support/errors.ts';

/** Writes on stderr and sets `process.exitCode`. The stack and its causes are shown only with `verbose`. */
export const reportError = (error: unknown, { verbose }: { verbose: boolean }): void => {
  if (error instanceof WaggleError) {
    process.exitCode = error.exitStatus;
    process.stderr.write(`waggle: ${oneLine(error.message)} [${error.code}]\n  ${oneLine(error.hint)}\n`);
  } else {
    process.exitCode = 1;
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(
      `waggle: unexpected: ${oneLine(message)}\n  ${verbose ? 'Please report it with what follows.' : 'Run it again with --verbose and report the trace.'}\n`,
    );
  }
  if (verbose) for (let cause = error; cause instanceof Error; cause = cause.cause) process.stderr.write(`${cause.stack ?? cause.message}\n`);
};

/** What is wrong without being in the way: one line. */
export const warn = ({ message, code }: WaggleError): void => {
  process.stderr.write(`waggle: warning: ${oneLine(message)} [${code}]\n`);
};

const oneLine = (text: string): string => text.replaceAll(/\s*\n\s*/g, ' ');
