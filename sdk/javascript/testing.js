// Runs a plugin in a test, without a host:
//
//     import { Worker } from "millstream-plugin/testing";
//     import Plugin from "./plugin.js";
//
//     const worker = new Worker(Plugin, { outputs: ["hot"], config: { limit: "20" } });
//     const [outcome] = worker.call({ key: "attic", value: '{"celsius":25}' });
//     assert.equal(outcome.output, "hot");
//
// An outcome is `{ input, output, key, value, headers, timestampMs }`, `{ input, reject }` or
// `{ input, retry, afterMs }`; key, value and headers are texts. State, timers, log lines and metrics are
// those of the worker: `worker.state()`, `worker.timers()`, `worker.lines`, `worker.metrics`. Timers fire
// when the test says how late it is: `worker.fire("record-time", nowMs)`.
//
// What a plugin finds in tables and secrets is given with it, `new Worker(Plugin, { tables: { places: { pdx:
// "Portland" } }, secrets: { "api-key": "hunter2" } })`, and may be set anew: `worker.setTable("places", {})`,
// `worker.setSecret("api-key", null)`. Requests are answered by a function: `answerHttp: (request) => new
// Response(200, request.body)`.

import { Context } from "./context.js";
import { Memory, use } from "./host.js";
import { Writer } from "./outputs.js";
import { fire, process } from "./process.js";
import { Cursor } from "./records.js";
import { decode, encode } from "./text.js";

const asText = (bytes) => (bytes === null ? null : decode(bytes));
const asBytes = (content) => (typeof content === "string" ? encode(content) : (content ?? null));

/** A plugin at work, with a host of its own. */
export class Worker {
  constructor(Plugin, options = {}) {
    const { outputs = [], config = {}, deployment = "test", topic = "records", partition = 0 } = options;
    const { tables = {}, secrets = {}, answerHttp = null } = options;
    this._host = new Memory(typeof Plugin.prototype?.onTimer === "function");
    this._host.changedTimers = null;
    for (const [name, entries] of Object.entries(tables)) this.setTable(name, entries);
    for (const [name, value] of Object.entries(secrets)) this.setSecret(name, value);
    this._host.answerHttp = answerHttp;
    use(this._host);
    this._context = new Context({ deployment, topic, partition, outputs, config });
    this._plugin = new Plugin(this._context);
    this._offset = 0;
  }

  /**
   * Has the plugin handle records `{ key, value, headers, timestampMs }` in one call. A text is a record
   * with that value. Throws when the call fails; state and timers are then as they were before.
   */
  call(...records) {
    const listed = records.map((record) => (typeof record === "string" ? { value: record } : record));
    const outcomes = this._call(() => process(this._plugin, batch(listed, this._offset)));
    this._offset += listed.length;
    return outcomes;
  }

  /**
   * Fires the timers that are due when the clock stands at `nowMs`, in one call, those of an earlier time
   * first: `input` of an outcome counts them. Throws when the call fails; state and timers are then as they
   * were before.
   */
  fire(clock, nowMs) {
    return this._call(() => fire(this._plugin, this._host.takeDue(clock, nowMs)));
  }

  _call(call) {
    use(this._host);
    const [state, timers] = [new Map(this._host.state), new Map(this._host.timers)];
    this._host.changedTimers = new Set();
    try {
      return [...read(call(), this._context)];
    } catch (thrown) {
      Object.assign(this._host, { state, timers });
      throw thrown;
    }
  }

  /** All that is kept, as texts. */
  state() {
    const entries = [...this._host.state.values()];
    return Object.fromEntries(entries.map(({ key, value }) => [decode(key), decode(value)]));
  }

  /** The timers that wait: their clocks, keys (as texts) and times. */
  timers() {
    return [...this._host.timers.values()].map((timer) => ({ ...timer, key: decode(timer.key) }));
  }

  /** Sets all that a table has: values by keys, which are texts. */
  setTable(name, entries) {
    this._host.setTable(name, entries);
  }

  /** Sets a secret; null takes it away. */
  setSecret(name, value) {
    this._host.secrets.set(name, value);
  }

  get lines() {
    return this._host.lines;
  }

  get metrics() {
    return this._host.metrics;
  }
}

/** A record batch, as the host hands it over. Its checksum is 0: the guest does not look at it. */
export function batch(records, baseOffset = 0) {
  const body = new Writer();
  const encoded = new Writer();
  records.forEach((record, index) => {
    encoded.length = 0;
    encoded.byte(0);
    encoded.number(record.timestampMs ?? 0);
    encoded.number(index);
    encoded.content(asBytes(record.key));
    encoded.content(asBytes(record.value));
    const headers = record.headers ?? [];
    encoded.number(headers.length);
    for (const { name, value } of headers) {
      encoded.content(encode(name));
      encoded.content(asBytes(value));
    }
    body.number(encoded.length);
    body.raw(encoded.written());
  });
  const header = new DataView(new ArrayBuffer(61));
  header.setBigUint64(0, BigInt(baseOffset));
  header.setUint32(8, 49 + body.length);
  header.setUint8(16, 2);
  header.setInt32(23, Math.max(records.length - 1, 0));
  header.setBigInt64(35, BigInt(Math.max(0, ...records.map((record) => record.timestampMs ?? 0))));
  header.setUint32(57, records.length);
  const whole = new Uint8Array(61 + body.length);
  whole.set(new Uint8Array(header.buffer));
  whole.set(body.written(), 61);
  return whole;
}

function* read(encoded, context) {
  const cursor = new Cursor(encoded, 0);
  for (let input = 0; cursor.at < encoded.length; ) {
    input += cursor.number();
    const kind = encoded[cursor.at++];
    if (kind === 0) {
      const output = context.outputs[cursor.number()];
      const recordBytes = cursor.number();
      const end = cursor.at + recordBytes;
      cursor.at += 1;
      const timestampMs = cursor.number();
      cursor.number();
      const [key, value] = [asText(cursor.bytes()), asText(cursor.bytes())];
      const headers = [];
      for (let left = cursor.number(); left > 0; left -= 1)
        headers.push({ name: decode(cursor.bytes()), value: asText(cursor.bytes()) });
      if (cursor.at !== end) throw new Error("an entry does not end where it says");
      yield { input, output, key, value, headers, timestampMs };
    } else if (kind === 1) {
      yield { input, reject: decode(cursor.bytes()) };
    } else {
      const afterMs = cursor.number();
      yield { input, retry: decode(cursor.bytes()), afterMs };
    }
  }
}
