/** `waggle doctor`: one line for each finding, exit status 1 if something hinders capture. */
import { styleText } from 'node:util';
import { Command } from 'commander';
import { examineDatabase } from './doctor-database.ts';
import { examineFile, type Finding } from './doctor-file.ts';

export const doctorCommand = (): Command =>
  new Command('doctor')
    .description('What would hinder capture of a SQLite database, and the mend. Writes nothing into it.')
    .argument('<file>', 'the SQLite database')
    .option('--verbose', 'show the trace of an error')
    .addHelpText('after', '\nExit status: 0 nothing hinders, 1 something does. Notes are worth knowing, but hinder nothing.')
    .action(doctor);

const doctor = (file: string): void => {
  const examined = examineFile(file);
  const findings = [...examined.findings, ...(examined.hive === null ? [] : examineDatabase(examined.hive))];
  const problems = findings.filter((finding) => finding.kind === 'problem').length;
  for (const finding of findings) process.stdout.write(`${formatFinding(finding)}\n`);
  process.stdout.write(
    problems === 0 ? `\n${file} can be captured.\n` : `\n${problems === 1 ? 'One thing hinders' : `${problems} things hinder`} capture.\n`,
  );
  if (problems > 0) process.exitCode = 1;
};

const LABELS = { ok: styleText('green', 'ok     '), note: styleText('yellow', 'note   '), problem: styleText('red', 'problem') } as const;

const formatFinding = ({ kind, text, mend, code }: Finding): string =>
  `${LABELS[kind]}  ${text}${code === undefined ? '' : ` [${code}]`}${mend === undefined ? '' : ` → ${mend}`}`;
