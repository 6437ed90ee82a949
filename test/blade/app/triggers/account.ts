/* oxlint-disable */
// @ts-nocheck: it is checked in the folder that blade-app.ts makes of it, where Blade is installed.
import { appendFileSync } from 'node:fs';
import type { Triggers } from 'blade/types';
export default {
  exposed: true as any,
  add: ({ query }) => query as any,
  followingAdd: async ({ records, waitUntil }) => {
    waitUntil?.(
      (async () => {
        await new Promise((r) => setTimeout(r, 300));
        appendFileSync(process.env.EVENTS_LOG ?? 'events.log', (records as any)[0].handle + '\n');
      })(),
    );
  },
} as any as Triggers;
