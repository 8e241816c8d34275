// Runs a plugin over the records, or the timers, of a call.

import { Abort, Failure, Reject, reasonOf } from "./failures.js";
import { Outputs } from "./outputs.js";
import { records } from "./records.js";

/** The outcomes of all records. Throws an `Abort` when the call as a whole fails. */
export function process(plugin, batches) {
  const out = new Outputs();
  for (const record of records(batches)) handleOne(plugin, "handle", record, record.timestampMs, out);
  return out._written.written();
}

/** The outcomes of all timers. Throws an `Abort` when the call as a whole fails. */
export function fire(plugin, timers) {
  const out = new Outputs();
  for (const timer of timers) handleOne(plugin, "onTimer", timer, timer.atMs, out);
  return out._written.written();
}

function handleOne(plugin, method, given, timestampMs, out) {
  out._begin(timestampMs);
  try {
    const returned = plugin[method](given, out);
    if (typeof returned?.then === "function")
      throw new Abort(`\`${method}\` returned a promise, and nothing waits for it: it must not be async`);
  } catch (thrown) {
    if (thrown instanceof Abort) throw thrown;
    out._fail(thrown instanceof Failure ? thrown : new Reject(reasonOf(thrown)));
  }
}
