import type { Clock, Context, NewRecord, Plugin } from "millstream-plugin";
import type { Request, Response } from "millstream-plugin/http";

export type Outcome =
  | {
      input: number;
      output: string;
      key: string | null;
      value: string | null;
      headers: { name: string; value: string | null }[];
      timestampMs: number;
    }
  | { input: number; reject: string }
  | { input: number; retry: string; afterMs: number };

export interface Options {
  outputs?: string[];
  config?: Record<string, string>;
  deployment?: string;
  topic?: string;
  partition?: number;
  /** What the tables have: values by keys. */
  tables?: Record<string, Record<string, string | Uint8Array>>;
  secrets?: Record<string, string>;
  /** What answers the plugin's requests. */
  answerHttp?: (request: Request) => Response;
}

/** A plugin at work, with a host of its own. */
export class Worker {
  constructor(plugin: new (context: Context) => Plugin, options?: Options);
  call(...records: (string | NewRecord)[]): Outcome[];
  /** Fires the timers that are due, in one call: `input` of an outcome counts them. */
  fire(clock: Clock, nowMs: number): Outcome[];
  state(): Record<string, string>;
  /** The timers that wait. */
  timers(): { clock: Clock; key: string; atMs: number }[];
  /** Sets all that a table has. */
  setTable(name: string, entries: Record<string, string | Uint8Array>): void;
  /** Sets a secret; null takes it away. */
  setSecret(name: string, value: string | null): void;
  readonly lines: { level: string; message: string }[];
  readonly metrics: Record<string, number>;
}

/** A record batch, as the host hands it over. */
export function batch(records: NewRecord[], baseOffset?: number): Uint8Array;
