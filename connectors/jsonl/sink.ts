/** The connector `jsonl`: every change as a line of JSON (the envelope), in a file or on standard output. */
import type { Sink } from '../../src/pipeline/sink.ts';
import { FileSink } from './file-sink.ts';
import { parseSize } from '../../src/support/units.ts';
import type { JsonlOptions } from './options.ts';
import { StreamSink } from './stream-sink.ts';

export const createSink = ({ file, rotate }: JsonlOptions): Sink =>
  file === undefined
    ? new StreamSink(process.stdout, 'jsonl stdout')
    : new FileSink({
        file,
        rotate:
          rotate === undefined ? null : { sizeBytes: typeof rotate.size === 'number' ? rotate.size : parseSize(rotate.size), keep: rotate.keep },
      });
