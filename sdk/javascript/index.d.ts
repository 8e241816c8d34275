/** Content as it is given: texts become UTF-8. */
export type Content = string | Uint8Array | null;

/** A declared output, as `Context.output` finds it. */
export interface Output {
  readonly index: number;
}

/** What a worker is told when it starts. */
export interface Context {
  readonly deployment: string;
  readonly topic: string;
  readonly partition: number;
  readonly outputs: readonly string[];
  readonly config: Readonly<Record<string, string>>;
  /** The output of this name. When the deployment declares none, the worker does not start. */
  output(name: string): Output;
}

export interface Header {
  readonly name: string;
  readonly value: Uint8Array | null;
}

/** A record as it comes in. */
export interface InputRecord {
  readonly offset: number;
  /** Milliseconds since 1970. */
  readonly timestampMs: number;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: Header[];
  /** The value of the first header of this name; null when there is none, or it has none. */
  header(name: string): Uint8Array | null;
  /** The value as UTF-8. */
  text(): string;
  /** The value as JSON. */
  json(): any;
}

/** A record to emit. What is left out is not there; the time is then that of the record at hand. */
export interface NewRecord {
  key?: Content;
  value?: Content;
  headers?: readonly { name: string; value: Content }[];
  timestampMs?: number;
}

/** Takes what a handler emits for the record at hand. */
export interface Outputs {
  /** Emits a record, with these changes if there are any. */
  emit(output: Output, record: InputRecord | NewRecord, changes?: NewRecord): void;
}

/** What `plugin.js` exports as its default: `export default class … implements Plugin`. */
export interface Plugin {
  handle(record: InputRecord, out: Outputs): void;
  /** Called by `timers`; a plugin that sets none needs none. A record without a time has the timer's. */
  onTimer?(timer: Timer, out: Outputs): void;
}

/**
 * What a timer's time is measured by: the greatest timestamp of all records that the worker has handled, or
 * the broker's clock.
 */
export type Clock = "record-time" | "wall-time";

/** A timer whose time has come. It is gone, unless it is set again. */
export interface Timer {
  readonly clock: Clock;
  readonly key: Uint8Array;
  /** What it was set for, milliseconds since 1970. It fires at that time or later. */
  readonly atMs: number;
}

/** The record is bad and will always be. */
export class Reject extends Error {
  constructor(reason: unknown);
}

/** The record is to be handled again, not before `afterMs` milliseconds have passed. */
export class Retry extends Error {
  constructor(afterMs: number, reason: unknown);
}

/** The call as a whole fails, and is made again by a new worker. */
export class Abort extends Error {
  constructor(reason: unknown);
}

export class StateError extends Error {}

/** A timer's key has more than 1024 bytes: rejects the record. */
export class TimerTooLarge extends Reject {
  constructor(what: unknown);
}

/** The call would set and cancel more than 10000 timers: fails it. */
export class TimerQuotaExceeded extends Abort {
  constructor(what: unknown);
}

/** Timers cannot be changed in the constructor: the worker does not start. */
export class TimerReadOnly extends Abort {
  constructor();
}

/** The plugin has no method `onTimer`: fails the call. */
export class NoTimerHandler extends Abort {
  constructor();
}

type Line = (message: unknown) => void;

/** Lines for the plugin's log. */
export const log: { trace: Line; debug: Line; info: Line; warn: Line; error: Line; critical: Line };

/** Figures for the operator. */
export const metrics: {
  counterAdd(name: string, delta?: number): void;
  gaugeSet(name: string, value: number): void;
};

/** Keys and values that outlive the worker, transactional with the call. */
export const state: {
  get(key: string | Uint8Array): Uint8Array | null;
  put(key: string | Uint8Array, value: string | Uint8Array): void;
  delete(key: string | Uint8Array): void;
  scan(prefix?: string | Uint8Array): Iterable<{ key: Uint8Array; value: Uint8Array }>;
};

/**
 * Has `onTimer` called later. A timer is known by its clock and its key: setting it again moves it. Timers
 * outlive the worker and are transactional with the call.
 */
export const timers: {
  /** Sets a timer for a time, milliseconds since 1970. In the past is allowed: it fires soon. */
  set(clock: Clock, key: string | Uint8Array, atMs: number): void;
  /** Cancels a timer, if there is one. */
  cancel(clock: Clock, key: string | Uint8Array): void;
};

/** UTF-8 and back: QuickJS has no TextDecoder. */
export function decode(bytes: Uint8Array): string;
export function encode(text: string): Uint8Array;
