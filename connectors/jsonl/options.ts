import { z } from 'zod';

const UNITS: Record<string, number> = { '': 1, k: 1e3, m: 1e6, g: 1e9, ki: 1024, mi: 1024 ** 2, gi: 1024 ** 3 };
const SIZE = /^(\d+(?:\.\d+)?) ?([kmg]i?)?b?$/i;

/** `100MB`, `64KiB` or a number of bytes. */
export const parseSize = (size: string | number): number => {
  if (typeof size === 'number') return size;
  const [, digits = '', unit = ''] = SIZE.exec(size) ?? [];
  return Math.round(Number(digits) * (UNITS[unit.toLowerCase()] ?? Number.NaN));
};

const rotate = z.strictObject({
  size: z
    .union([z.int().min(1), z.string().regex(SIZE, { error: 'must be a size like 100MB or 64KiB' })])
    .describe(
      'A batch that finds the file at least this large begins a new one: the file is renamed to <file>.1, and <file>.1 to <file>.2. Files are cut only between batches.',
    ),
  keep: z.int().min(1).max(10_000).default(5).describe('How many renamed files stay; older ones are deleted.'),
});

/** Options of `type: jsonl`. */
export const options = z
  .strictObject({
    file: z.string().min(1).optional().describe('File to append to, one event a line. Beside it stands <file>.waggle with the checkpoint.'),
    stdout: z.literal(true).optional().describe('Write to standard output instead of a file.'),
    rotate: rotate.optional().describe('Begin a new file from time to time. Without it the file grows for ever.'),
  })
  .refine(({ file, stdout }) => (file === undefined) !== (stdout === undefined), { error: 'needs either `file` or `stdout: true`' })
  .refine(({ stdout, rotate: rotation }) => stdout === undefined || rotation === undefined, { error: '`rotate` is for `file`' });

export type JsonlOptions = z.infer<typeof options>;
