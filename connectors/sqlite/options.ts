import { z } from 'zod';

/** Options of `type: sqlite`. */
export const options = z.strictObject({
  file: z.string().min(1).describe('Database file to write; created if it is missing, in WAL mode. Never the hive itself.'),
});

export type SqliteOptions = z.infer<typeof options>;
