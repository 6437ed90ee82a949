import { z } from 'zod';

const isMongoUrl = (text: string): boolean => /^mongodb(\+srv)?:\/\/[^/]+/.test(text);

/** Options of `type: mongodb`. */
export const options = z
  .strictObject({
    url: z
      .string()
      .refine(isMongoUrl, { error: 'must look like mongodb://user:password@host:27017/database' })
      .describe(
        'Connection string, mongodb://user:password@host:27017/database or mongodb+srv://… with all options that MongoDB knows. Keep the password out of the file: ${MONGODB_URL} or ${file:/run/secrets/url}.',
      ),
    database: z.string().min(1).max(63).optional().describe('Database that the collections stand in. Default: the one in the url.'),
  })
  .superRefine((value, context) => {
    if (databaseOf(value) === null) context.addIssue({ code: 'custom', path: ['database'], message: 'is missing: name it here or in the url' });
  });

export type MongodbOptions = z.infer<typeof options>;

/** The database by its own option or by the path of the URL; null: none is named. */
export const databaseOf = ({ url, database }: MongodbOptions): string | null => {
  if (database !== undefined) return database;
  const path = /^mongodb(?:\+srv)?:\/\/[^/]+\/([^?]+)/.exec(url)?.[1];
  return path === undefined ? null : decodeURIComponent(path);
};

/** Hosts and database: what may stand in messages and logs. */
export const labelOf = (named: MongodbOptions): string => {
  const hosts = /^mongodb(?:\+srv)?:\/\/(?:[^/]*@)?([^/?]+)/.exec(named.url)?.[1] ?? '';
  return `mongodb ${hosts}/${databaseOf(named) ?? ''}`;
};
