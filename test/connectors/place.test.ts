import { describe, expect, it } from 'vitest';
import { CONNECTORS } from '../../connectors/registry.ts';

const place = (type: string, options: object): string => CONNECTORS[type]!.tablesIn!(options);

describe('one place, however it is written', () => {
  it.each([
    ['postgres', { url: 'postgres://u:p@127.0.0.1:5432/db' }, { url: 'postgresql://v@localhost/db?sslmode=disable', schema: 'public' }],
    ['postgres', { url: 'postgres://db@LOCALHOST' }, { url: 'postgres://db@[::1]:5432/db' }],
    ['postgres', { url: 'postgres://u@x/y?host=db.example&port=5432&dbname=a' }, { url: 'postgres://u@DB.example./a' }],
    ['mysql', { url: 'mysql://u:p@127.0.0.1/db' }, { host: 'localhost', port: 3306, database: 'db' }],
    ['mysql', { url: 'mariadb://u@h:3306/x', database: 'db' }, { url: 'mysql://u@H/db' }],
    ['mongodb', { url: 'mongodb://u:p@127.0.0.1/db?replicaSet=rs' }, { url: 'mongodb://localhost:27017', database: 'db' }],
    ['mongodb', { url: 'mongodb://u:p@a,b/db' }, { url: 'mongodb://a,b', database: 'db' }],
  ])('%s: %j and %j', (type, one, two) => {
    expect(place(type, one)).toBe(place(type, two));
    expect(place(type, one)).not.toContain(':p@');
  });
});

describe('different places', () => {
  it.each([
    ['postgres', { url: 'postgres://u@h/db' }, { url: 'postgres://u@h/db', schema: 'other' }],
    ['postgres', { url: 'postgres://u@h/db' }, { url: 'postgres://u@h/other' }],
    ['postgres', { url: 'postgres://u@h:5432/db' }, { url: 'postgres://u@h:5433/db' }],
    ['mysql', { host: 'a', database: 'db' }, { host: 'b', database: 'db' }],
    ['mysql', { url: 'mysql://h/a' }, { url: 'mysql://h/b' }],
    ['mongodb', { url: 'mongodb://a,b/db' }, { url: 'mongodb://a,c/db' }],
  ])('%s: %j and %j', (type, one, two) => expect(place(type, one)).not.toBe(place(type, two)));
});
