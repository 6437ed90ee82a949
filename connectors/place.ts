/** Where the tables of a sink stand, as far as its options tell: equal for two spellings of one place. */

/** Host and port; this machine under any of its own names is `localhost`. */
export const hostPlace = (host: string, port: string | number | undefined, defaultPort: number): string => {
  const name = host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
  const local = name === '' || name === 'localhost' || name === '::1' || /^127\.\d+\.\d+\.\d+$/.test(name);
  return `${local ? 'localhost' : name}:${port === undefined || port === '' ? defaultPort : port}`;
};

/** `pg` takes options behind the question mark before those in front of it; the database is named like the user where it is not named. */
export const postgresPlace = ({ url, schema = 'public' }: { readonly url: string; readonly schema?: string | undefined }): string => {
  const { hostname, port, pathname, username, searchParams } = new URL(url);
  const user = searchParams.get('user') ?? decodeURIComponent(username);
  const database = searchParams.get('dbname') ?? decodeURIComponent(pathname.slice(1));
  const server = hostPlace(searchParams.get('host') ?? decodeURIComponent(hostname), searchParams.get('port') ?? port, 5432);
  return `${server}/${database === '' ? user : database} ${schema}`;
};

/** Only of a URL with one host: of a list nothing tells which of them is meant. */
export const urlPlace = (url: string, { database, defaultPort }: { readonly database: string; readonly defaultPort: number }): string => {
  if (!URL.canParse(url)) return `${url.replace(/^.*@/, '').replace(/[/?].*$/, '')}/${database}`;
  const { hostname, port } = new URL(url);
  return `${hostPlace(decodeURIComponent(hostname), port, defaultPort)}/${database}`;
};
