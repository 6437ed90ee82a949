import { z } from 'zod';

const isPostgresUrl = (text: string): boolean => /^postgres(ql)?:\/\//.test(text) && URL.canParse(text);

/** Options of `type: postgres`. */
export const options = z.strictObject({
  url: z
    .string()
    .refine(isPostgresUrl, { error: 'must look like postgres://user:password@host:5432/database' })
    .describe(
      'Connection URL, postgres://user:password@host:5432/database?sslmode=require. Keep the password out of the file: ${DATABASE_URL} or ${file:/run/secrets/url}.',
    ),
  schema: z
    .string()
    .min(1)
    .max(63)
    .optional()
    .describe("Schema that the tables stand in; created if it is missing. Without it the connection's own (usually public)."),
});

export type PostgresOptions = z.infer<typeof options>;
