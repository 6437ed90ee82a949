/** The command line: which commands there are, and how an error ends the program. */
import { Command, CommanderError } from 'commander';
import { systemErrorCode, WaggleError } from '../support/errors.ts';
import { VERSION } from '../support/version.ts';
import { deadLettersCommand } from './dead-letters.ts';
import { doctorCommand } from './doctor.ts';
import { reportError } from './report-error.ts';
import { initCommand } from './init.ts';
import { pauseCommand, resumeCommand } from './pause.ts';
import { runCommand } from './run.ts';
import { sinkCommand } from './sink.ts';
import { resyncCommand, verifyCommand } from './sink-task.ts';
import { statusCommand } from './status.ts';
import { stopCommand } from './stop.ts';
import { tailCommand } from './tail.ts';

const EXAMPLES = `
Examples:
  $ waggle tail .blade/state/databases/main/db.sqlite      changes as they commit
  $ waggle tail app.sqlite --snapshot | jq .after          existing rows first, as JSON lines
  $ waggle init && waggle run                              write waggle.yaml, then start the daemon
  $ waggle status                                          what the daemon has done, whether it runs or not
  $ waggle stop --all                                      end the daemon, and the keeper that outlives it
  $ waggle verify reporting                                compare every row of a sink with the database
  $ waggle dead-letters list                               rows that a sink refused, and why
  $ waggle sink reporting --from stream                    feed a sink from Kafka, on another machine
  $ waggle doctor app.sqlite                               what would hinder capture, and the mend

Exit status: 0 the orderly end (also after Ctrl-C), 1 something failed, 2 a wrong command line or configuration.`;

/** Runs one command; sets the exit status, writes at most one error (a line and its hint) on stderr, never throws. */
export const main = async (argv: readonly string[]): Promise<void> => {
  ignoreClosedPipes();
  const program = new Command('waggle')
    .description('Change data capture for SQLite: ordered row changes out of the write-ahead log, with nothing inside the application.')
    .version(VERSION, '-V, --version')
    .helpCommand(false)
    .addHelpText('after', EXAMPLES)
    .showSuggestionAfterError(true);
  for (const command of [
    runCommand(),
    stopCommand(),
    tailCommand(),
    initCommand(),
    statusCommand(),
    pauseCommand(),
    resumeCommand(),
    verifyCommand(),
    resyncCommand(),
    deadLettersCommand(),
    sinkCommand(),
    doctorCommand(),
  ])
    program.addCommand(command);
  for (const command of [program, ...program.commands, ...program.commands.flatMap((parent) => parent.commands)]) {
    // Usage errors are reported below, in the form of all errors.
    command.exitOverride().configureOutput({ writeErr: () => {} });
  }
  try {
    if (argv.length <= 2) program.outputHelp();
    else await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return;
    reportError(error instanceof CommanderError ? usageError(error) : error, { verbose: argv.includes('--verbose') });
  }
};

/** A reader that has seen enough (`| head`) is no error: what is still written goes nowhere. */
const ignoreClosedPipes = (): void => {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error) => {
      if (systemErrorCode(error) !== 'EPIPE') throw error;
    });
};

const usageError = (error: CommanderError): WaggleError =>
  new WaggleError('USAGE', error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' '), { cause: error });
