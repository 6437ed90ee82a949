import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory that goes with its scope. */
export const temporaryDirectory = (): { path: string } & Disposable => {
  const path = mkdtempSync(join(tmpdir(), 'waggle-test-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
};
