// What the host offers. In a test, a host of its own in memory takes its place.

import {
  NoTimerHandler,
  PassingHttpError,
  TableKeyTooLarge,
  TimerQuotaExceeded,
  TimerReadOnly,
  TimerTooLarge,
  UnknownTable,
} from "./failures.js";
import { encode } from "./text.js";

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];
const PAGE_ENTRIES = 1000;
const MAX_KEY_BYTES = 1024;
const MAX_VALUE_BYTES = 1 << 20;
const CLOCKS = ["record-time", "wall-time"];
const MAX_TIMER_KEY_BYTES = 1024;
const MAX_TIMER_CHANGES = 10_000;
const MAX_TABLE_KEY_BYTES = 1024;

/**
 * The state could not be read or written: a key or value is too large, the changes of the call are, or it
 * is not yet time to write.
 */
export class StateError extends Error {
  get name() {
    return "StateError";
  }
}

/** A host for tests: it keeps what it is told. */
export class Memory {
  constructor(handlesTimers = true) {
    this.lines = [];
    this.metrics = {};
    // By the bytes of the key, as text that sorts as they do.
    this.state = new Map();
    // By their clocks and keys.
    this.timers = new Map();
    // Those that the call under way has set or cancelled; null before the first.
    this.changedTimers = new Set();
    this._handlesTimers = handlesTimers;
    // By their names: their entries, by the bytes of the key.
    this.tables = new Map();
    this.secrets = new Map();
    this.answerHttp = null;
  }

  log(level, context, message) {
    this.lines.push({ level, message });
  }

  counterAdd(name, delta) {
    this.metrics[name] = (this.metrics[name] ?? 0) + delta;
  }

  gaugeSet(name, value) {
    this.metrics[name] = value;
  }

  stateGet(key) {
    checkLength("key", key, MAX_KEY_BYTES);
    return this.state.get(latin1(key))?.value ?? null;
  }

  statePut(key, value) {
    checkLength("key", key, MAX_KEY_BYTES);
    checkLength("value", value, MAX_VALUE_BYTES);
    this.state.set(latin1(key), { key: key.slice(), value: value.slice() });
  }

  stateDelete(key) {
    checkLength("key", key, MAX_KEY_BYTES);
    this.state.delete(latin1(key));
  }

  statePage(prefix, after, limit) {
    const [begin, behind] = [latin1(prefix), after && latin1(after)];
    const names = [...this.state.keys()]
      .filter((name) => name.startsWith(begin) && (behind === null || name > behind))
      .sort();
    const entries = names.slice(0, limit).map((name) => this.state.get(name));
    return { entries, more: names.length > limit };
  }

  timerSet(clock, key, atMs) {
    this.timers.set(this._changeTimer(clock, key), { clock, key: key.slice(), atMs });
  }

  timerCancel(clock, key) {
    this.timers.delete(this._changeTimer(clock, key));
  }

  _changeTimer(clock, key) {
    if (!this._handlesTimers) throw new NoTimerHandler();
    if (this.changedTimers === null) throw new TimerReadOnly();
    if (key.length > MAX_TIMER_KEY_BYTES)
      throw new TimerTooLarge(`a key of ${key.length} bytes, more than ${MAX_TIMER_KEY_BYTES}`);
    const name = `${clock} ${latin1(key)}`;
    if (this.changedTimers.size >= MAX_TIMER_CHANGES && !this.changedTimers.has(name))
      throw new TimerQuotaExceeded(`the call would set and cancel more than ${MAX_TIMER_CHANGES} timers`);
    this.changedTimers.add(name);
    return name;
  }

  tableNames() {
    return [...this.tables.keys()];
  }

  tableGet(table, key) {
    const entries = this.tables.get(table);
    if (entries === undefined) throw UnknownTable.among(table, this.tableNames());
    if (key.length > MAX_TABLE_KEY_BYTES)
      throw new TableKeyTooLarge(`a key of ${key.length} bytes, more than ${MAX_TABLE_KEY_BYTES}`);
    return entries.get(latin1(key)) ?? null;
  }

  setTable(name, entries) {
    const named = Object.entries(entries).map(([key, value]) => [latin1(toBytes(key)), toBytes(value)]);
    this.tables.set(name, new Map(named));
  }

  secretGet(name) {
    return this.secrets.get(name) ?? null;
  }

  httpSend(request) {
    if (this.answerHttp === null)
      throw new PassingHttpError("the request failed: nothing answers it: give the `Worker` an `answerHttp`");
    return this.answerHttp(request);
  }

  /** Takes the timers that are due, those of an earlier time first. */
  takeDue(clock, nowMs) {
    const due = [...this.timers].filter(([, timer]) => timer.clock === clock && timer.atMs <= nowMs);
    for (const [name] of due) this.timers.delete(name);
    return due.map(([, timer]) => timer).sort((one, other) => one.atMs - other.atMs);
  }
}

function checkLength(what, bytes, limit) {
  if (bytes.length > limit)
    throw new StateError(`a ${what} of ${bytes.length} bytes, more than ${limit}`);
}

function latin1(bytes) {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

let current = new Memory();

/** Puts another host in place. The component's is put while it is built, a test's before a call. */
export function use(host) {
  current = host;
}

/** The host in place. */
export function host() {
  return current;
}

/** Bytes of a text, or as they are. What is neither would trap in the component, and throws instead. */
export function toBytes(content) {
  if (typeof content === "string") return encode(content);
  if (content instanceof Uint8Array) return content;
  throw new TypeError(`a text or a Uint8Array is expected, not ${String(content)}`);
}

const line = (level) => (message) => current.log(level, "plugin.js", String(message));

/** Lines for the plugin's log, which `millstream plugin logs` shows: `log.info("…")`. */
export const log = Object.fromEntries(LEVELS.map((level) => [level, line(level)]));

/**
 * Figures for the operator, which `millstream plugin describe` shows. A name has 1 to 64 bytes: ASCII
 * letters, digits and `_`, the first a letter.
 */
export const metrics = {
  /** Adds to a counter, which begins at 0. */
  counterAdd(name, delta = 1) {
    current.counterAdd(name, delta);
  },

  /** Sets a gauge. What is not a finite number is dropped. */
  gaugeSet(name, value) {
    current.gaugeSet(name, value);
  },
};

/**
 * Keys and values that outlive the worker. They belong to the deployment and the partition, and what a
 * call writes counts if and only if the call does. Keys and values are texts or Uint8Arrays; what is read
 * is a Uint8Array. A key has at most 1024 bytes, a value 1 MiB; what breaks a limit throws a `StateError`,
 * which rejects the record unless it is caught. In the constructor, state is read and not written.
 */
export const state = {
  /** The value of a key, or null when there is none. */
  get(key) {
    return current.stateGet(toBytes(key));
  },

  /** Sets the value of a key. */
  put(key, value) {
    current.statePut(toBytes(key), toBytes(value));
  },

  /** Deletes a key and its value, if it has one. */
  delete(key) {
    current.stateDelete(toBytes(key));
  },

  /**
   * The entries `{ key, value }` whose keys begin with `prefix`, in the order of their keys. They are read
   * page by page, so what is written meanwhile may show.
   */
  *scan(prefix = "") {
    const begin = toBytes(prefix);
    for (let after = null, more = true; more; ) {
      const page = current.statePage(begin, after, PAGE_ENTRIES);
      yield* page.entries;
      more = page.more && page.entries.length > 0;
      after = page.entries.at(-1)?.key ?? null;
    }
  },
};

function checkClock(clock) {
  if (!CLOCKS.includes(clock))
    throw new TypeError(`a timer's clock is "record-time" or "wall-time", not ${JSON.stringify(clock)}`);
}

/**
 * Has `onTimer` called later. A timer is known by its clock and its key, a text or a Uint8Array: setting it
 * again moves it. Timers belong to the deployment and the partition, outlive the worker, and count if and
 * only if the call does. The clock `"record-time"` stands at the greatest timestamp of all records that the
 * worker has handled: it never goes back, and stands still while no records come. `"wall-time"` is the
 * broker's clock. A key has at most 1024 bytes, which else throws a `TimerTooLarge`; more than 10000 in one
 * call throw a `TimerQuotaExceeded`, any in the constructor a `TimerReadOnly`, and any in a plugin without
 * `onTimer` a `NoTimerHandler`.
 */
export const timers = {
  /** Sets a timer for a time, milliseconds since 1970. In the past is allowed: it fires soon. */
  set(clock, key, atMs) {
    checkClock(clock);
    const whole = Math.floor(atMs);
    if (!Number.isSafeInteger(whole))
      throw new RangeError(`a timer's time is a number of milliseconds, not ${atMs}`);
    current.timerSet(clock, toBytes(key), whole);
  },

  /** Cancels a timer, if there is one. */
  cancel(clock, key) {
    checkClock(clock);
    current.timerCancel(clock, toBytes(key));
  },
};
