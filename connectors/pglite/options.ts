import { z } from 'zod';

/** Options of `type: pglite`. */
export const options = z.strictObject({
  dir: z
    .string()
    .min(1)
    .describe(
      'Data directory of the embedded Postgres; created if it is missing. One process at a time can have it open. PGlite does not wait for the disk: a kill does no harm, a power loss can.',
    ),
});

export type PgliteOptions = z.infer<typeof options>;
