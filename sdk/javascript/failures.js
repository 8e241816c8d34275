// A record, or a call, that could not be handled.

import { encode } from "./text.js";

const MAX_REASON_BYTES = 4096;
const MAX_RETRY_MS = 86_400_000;

// The deployment's own back-off goes before, if it is longer.
const HTTP_RETRY_MS = 100;

/** Why a record or a call could not be handled: the reason is for the operator. */
export class Failure extends Error {
  constructor(reason) {
    super(String(reason));
    this.reason = this.message;
  }
}

/** The record is bad and will always be. It goes where the deployment sends such records. */
export class Reject extends Failure {}

/**
 * The record cannot be handled now, but perhaps later: not before `afterMs` milliseconds have passed, a
 * day at most.
 */
export class Retry extends Failure {
  constructor(afterMs, reason) {
    super(reason);
    this.afterMs = Math.min(Math.max(Math.trunc(afterMs), 0), MAX_RETRY_MS);
  }
}

/**
 * The worker cannot go on, whatever the record. Nothing of the call counts; a new worker handles the same
 * records later.
 */
export class Abort extends Failure {}

/** A timer's key has too many bytes. That rejects the record unless it is caught: it always will be so. */
export class TimerTooLarge extends Reject {
  constructor(what) {
    super(`too large for a timer: ${what}`);
  }
}

/** The call would set and cancel too many timers. It fails, unless this is caught. */
export class TimerQuotaExceeded extends Abort {
  constructor(what) {
    super(`too many timers: ${what}`);
  }
}

/** Timers cannot be changed in the constructor: the worker does not start. */
export class TimerReadOnly extends Abort {
  constructor() {
    super("timers cannot be changed before the first record");
  }
}

/** The timer would have nothing to call: the call that sets it fails. */
export class NoTimerHandler extends Abort {
  constructor() {
    super("timers need a method `onTimer` in the plugin's class");
  }
}

/** The deployment has no table of this name. */
export class UnknownTable extends Abort {
  /** None has the name, but these are there. */
  static among(name, declared) {
    const there = declared.map((table) => `\`${table}\``).join(", ") || "none";
    return new UnknownTable(`the deployment has no table \`${name}\` (it has ${there})`);
  }
}

/** The key has too many bytes. That rejects the record unless it is caught: it always will be so. */
export class TableKeyTooLarge extends Reject {
  constructor(what) {
    super(`too large for a table: ${what}`);
  }
}

/** The same request would come to the same another time. That rejects the record unless it is caught. */
export class FinalHttpError extends Reject {
  constructor(reason, status = null) {
    super(reason);
    /** The status, if there is a response. */
    this.status = status;
  }
}

/** Another time the request may have a response. The record is tried again unless this is caught. */
export class PassingHttpError extends Retry {
  constructor(reason, status = null) {
    super(HTTP_RETRY_MS, reason);
    /** The status, if there is a response. */
    this.status = status;
  }
}

/** What was thrown says: its kind and where in the plugin it was thrown, if it is not one of ours. */
export function reasonOf(thrown) {
  if (thrown instanceof Failure) return thrown.reason;
  if (!(thrown instanceof Error)) return `thrown: ${String(thrown)}`;
  const place = /([^\s/(]*plugin\.(?:test\.)?js:\d+)/.exec(thrown.stack ?? "");
  return `${thrown.name}: ${thrown.message}${place ? ` (${place[1]})` : ""}`;
}

/** As many of its characters as a reason may have, in UTF-8. */
export function encodedReason(reason) {
  const whole = encode(reason);
  if (whole.length <= MAX_REASON_BYTES) return whole;
  let end = MAX_REASON_BYTES;
  while ((whole[end] & 0xc0) === 0x80) end -= 1;
  return whole.subarray(0, end);
}
