/** A database that sinks are measured on, and the scripts that a sink is held against. */
import type { Sink } from '../../src/pipeline/sink.ts';
import type { BenchChange, BenchRow } from './workload.ts';

export interface BenchTarget extends AsyncDisposable {
  readonly name: string;
  /** How the floors are made, for the table's foot. */
  readonly floors: string;
  /** Of the rows and changes that are asked for: a slow server gets fewer. */
  readonly share: number;
  createSink(): Sink;
  /** Floor of a first fill: creates the table as the connector would, and loads the rows the fastest way there is. */
  load(table: string, rows: readonly BenchRow[]): Promise<void>;
  /** Floor of a stream: all of the changes at once, in one transaction where there are such. */
  mixed(table: string, changes: readonly BenchChange[]): Promise<void>;
  /** As code beside the application does it: a statement a change, each committed by itself. */
  oneByOne(table: string, changes: readonly BenchChange[]): Promise<void>;
  drop(table: string): Promise<void>;
}
