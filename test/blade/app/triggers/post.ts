/* oxlint-disable */
// @ts-nocheck: it is checked in the folder that blade-app.ts makes of it, where Blade is installed.
import type { Triggers } from 'blade/types';
export default {
  exposed: true as any,
  add: ({ query }) => query as any,
  set: ({ query }) => query as any,
  remove: ({ query }) => query as any,
  get: ({ query }) => query as any,
} as any as Triggers;
