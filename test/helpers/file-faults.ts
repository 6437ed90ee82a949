/** Faults of the disk, put in through the seam of src/support/file.ts. */
import { writeSync } from 'node:fs';
import { type FileOperation, fileSeam } from '../../src/support/file.ts';

export interface Fault extends Disposable {
  /** Operations seen so far. */
  readonly operations: number;
  readonly hasFired: boolean;
}

/**
 * Lets the N-th operation fail (1-based), a write after half of its bytes. `once`: with ENOSPC, and the disk is well
 * again behind it. `dead`: that and every later operation fails, as if the process had been killed there.
 */
export const failAt = (n: number, mode: 'once' | 'dead'): Fault => {
  const before = fileSeam.before;
  const fault = { operations: 0, hasFired: false, [Symbol.dispose]: () => void (fileSeam.before = before) };
  fileSeam.before = (operation: FileOperation): void => {
    fault.operations += 1;
    if (fault.operations < n || (mode === 'once' && fault.operations > n)) return;
    if (fault.operations === n && operation.kind === 'write') {
      const { fd, bytes, position } = operation;
      writeSync(fd, bytes, 0, bytes.length >> 1, position);
    }
    fault.hasFired = true;
    throw Object.assign(new Error(`fault at operation ${n} (${operation.kind})`), { code: mode === 'once' ? 'ENOSPC' : 'EIO' });
  };
  return fault;
};
