import { z } from 'zod';

const isMysqlUrl = (text: string): boolean => /^(mysql|mariadb):\/\//.test(text) && URL.canParse(text);

/** Options of `type: mysql`. Either `url`, or `host` and what belongs to it. */
export const options = z
  .strictObject({
    url: z
      .string()
      .refine(isMysqlUrl, { error: 'must look like mysql://user:password@host:3306/database' })
      .optional()
      .describe(
        'Connection URL, mysql://user:password@host:3306/database. Keep the password out of the file: ${DATABASE_URL} or ${file:/run/secrets/url}.',
      ),
    host: z.string().min(1).optional().describe('Host name or address of the server; instead of `url`.'),
    port: z.int().min(1).max(65_535).optional().describe('Port of the server. Default 3306.'),
    user: z.string().optional().describe('Name of the user.'),
    password: z.string().optional().describe('Password of the user. Keep it out of the file: ${MYSQL_PASSWORD} or ${file:/run/secrets/password}.'),
    database: z
      .string()
      .min(1)
      .optional()
      .describe('Database (what MySQL also calls schema) that the tables stand in. It must exist. Replaces the one of the URL.'),
    tls: z
      .enum(['off', 'verify', 'unverified'])
      .optional()
      .describe(
        "`verify`: encrypted, and the server's certificate is checked (a CA of your own: NODE_EXTRA_CA_CERTS). `unverified`: encrypted only. Default `off`.",
      ),
  })
  .superRefine((value, context) => {
    const fields = (['host', 'port', 'user', 'password'] as const).filter((name) => value[name] !== undefined);
    if (value.url !== undefined && fields.length > 0)
      context.addIssue({ code: 'custom', path: [fields[0]!], message: 'stands in the url already: write one of both' });
    if (value.url === undefined && value.host === undefined) context.addIssue({ code: 'custom', path: ['url'], message: 'is missing (or `host`)' });
    if (databaseOf(value) === null) context.addIssue({ code: 'custom', path: ['database'], message: 'is missing: name it here or in the url' });
  });

export type MysqlOptions = z.infer<typeof options>;

/** The database by its own option or by the path of the URL; null: none is named. */
export const databaseOf = ({ url, database }: { url?: string | undefined; database?: string | undefined }): string | null => {
  if (database !== undefined) return database;
  if (url === undefined || !URL.canParse(url)) return null;
  const path = new URL(url).pathname.slice(1);
  return path === '' ? null : decodeURIComponent(path);
};
