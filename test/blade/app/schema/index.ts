// @ts-nocheck: it is checked in the folder that blade-app.ts makes of it, where Blade is installed.
import { blob, boolean, date, json, link, model, number, string } from 'blade/schema';

export const Account = model({
  slug: 'account',
  fields: {
    handle: string({ required: true, unique: true }),
    email: string({ required: true, unique: true }),
    name: string(),
    verified: boolean({ defaultValue: false }),
    age: number(),
    settings: json(),
    avatar: blob(),
  },
});

export const Session = model({
  slug: 'session',
  fields: {
    account: link({ target: 'account', required: true, actions: { onDelete: 'CASCADE' } }),
    browser: string(),
    activeAt: date({ required: true }),
    url: string({ required: true }),
  },
});

export const Post = model({
  slug: 'post',
  fields: {
    title: string({ required: true }),
    body: string(),
    author: link({ target: 'account' }),
    likes: number({ defaultValue: 0 }),
    published: boolean({ defaultValue: false }),
    publishedAt: date(),
    tags: json(),
    editors: link({ target: 'account', kind: 'many' }),
  },
});
