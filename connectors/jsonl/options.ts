import { z } from 'zod';
import { SIZE_PATTERN } from '../../src/support/units.ts';

const rotate = z.strictObject({
  size: z
    .union([z.int().min(1), z.string().regex(SIZE_PATTERN, { error: 'must be a size like 100MB or 64KiB' })])
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
