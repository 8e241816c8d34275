// Tells of readings above a limit, and how many there have been of that sensor.
//
// In: one JSON object a record, with `sensor` and `celsius`. Out, on `hot`: for each reading above
// `limit`, the same and a count.

import { Reject, decode, log, state } from "millstream-plugin";

const DEFAULT_LIMIT = "30";

// One worker: what lasts from record to record. It is gone when the worker is started anew; what must
// last longer is kept in `state`.
export default class Plugin {
  // Runs once, before the first record: reads the configuration and finds the outputs. What it throws
  // keeps the worker from starting.
  constructor(context) {
    const limit = context.config.limit ?? DEFAULT_LIMIT;
    this.limit = Number(limit);
    if (Number.isNaN(this.limit)) throw new Error(`limit must be a number, not \`${limit}\``);
    this.hot = context.output("hot");
    log.info(`readings above ${this.limit}`);
  }

  // Runs for each record. It may emit any number of records, to any output.
  //
  // What it throws rejects the record: it is bad, and goes where the deployment sends such records.
  // `Retry` has it handled again later.
  handle(record, out) {
    const { sensor, celsius } = record.json();
    if (typeof sensor !== "string" || typeof celsius !== "number")
      throw new Reject("expected the fields sensor and celsius");
    if (celsius <= this.limit) return;
    const hot = { sensor, celsius, times: count(sensor) };
    // The same key, time and headers, and another value.
    out.emit(this.hot, record, { value: JSON.stringify(hot) });
  }
}

// Counts one more of a sensor. The state outlives the worker, and counts if the call does.
//
// What is written for a record stays when the record is rejected later on: handed back by `plugin dlq
// retry`, it would be counted twice. So everything that may be rejected is looked at before.
function count(sensor) {
  const before = state.get(sensor);
  const times = (before === null ? 0 : Number(decode(before))) + 1;
  state.put(sensor, String(times));
  return times;
}
