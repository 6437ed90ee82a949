/**
 * A checkpoint in a file of its own, replaced whole: written beside it, flushed, renamed.
 *
 *     {"format":1,"sink":"changes","token":"…","bytes":1234,"checkpoint":{"logId":…,"term":…,"seq":…,"txid":…,"fill":…}}
 *
 * `bytes`: length of the data file that the checkpoint stands for. `token`: who took the sink last.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { z } from 'zod';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';

const schema = z.object({
  format: z.literal(1),
  sink: z.string(),
  token: z.string(),
  bytes: z.int().min(0),
  checkpoint: z.object({ logId: z.string(), term: z.string(), seq: z.int(), txid: z.string(), fill: z.string().nullable() }).nullable(),
});

export type CheckpointFile = z.infer<typeof schema>;

/** Null: there is none. Throws SINK_DENIED for a file that is something else. */
export const readCheckpointFile = async (path: string): Promise<CheckpointFile | null> => {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
  const result = schema.safeParse(parseJson(text));
  if (!result.success)
    throw new WaggleError('SINK_DENIED', `${path}: this is not a checkpoint of waggle`, {
      hint: 'Move the file away; the sink is then filled again.',
    });
  return result.data;
};

/** Resolves when the content is on the disk. */
export const writeCheckpointFile = async (path: string, content: CheckpointFile): Promise<void> => {
  const temporary = `${path}.tmp`;
  const handle = await open(temporary, 'w', 0o600);
  try {
    await handle.writeFile(JSON.stringify(content));
    await handle.datasync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};
