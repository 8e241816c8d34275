// Runs a plugin over the records of a call.

import { Abort, Failure, Reject, reasonOf } from "./failures.js";
import { Outputs } from "./outputs.js";
import { records } from "./records.js";

/** The outcomes of all records. Throws an `Abort` when the call as a whole fails. */
export function process(plugin, batches) {
  const out = new Outputs();
  for (const record of records(batches)) {
    out._begin(record.timestampMs);
    try {
      const returned = plugin.handle(record, out);
      if (typeof returned?.then === "function")
        throw new Abort("`handle` returned a promise, and nothing waits for it: it must not be async");
    } catch (thrown) {
      if (thrown instanceof Abort) throw thrown;
      out._fail(thrown instanceof Failure ? thrown : new Reject(reasonOf(thrown)));
    }
  }
  return out._written.written();
}
