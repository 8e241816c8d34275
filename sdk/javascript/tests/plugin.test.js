// The SDK, by a plugin that does what its records say.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Abort, NoTimerHandler, Reject, Retry, TimerQuotaExceeded, TimerReadOnly, log, metrics, state, timers,
} from "../index.js";
import { FinalHttpError, Response, addressOf, http } from "../http.js";
import { check } from "../imported.js";
import { records } from "../records.js";
import { secrets } from "../secrets.js";
import { Table, UnknownTable } from "../tables.js";
import { Worker, batch } from "../testing.js";
import { decode, decodeSlowly, encode, encodeSlowly } from "../text.js";

const SAME = {
  key: "key",
  value: "same",
  headers: [
    { name: "trace", value: "7" },
    { name: "none", value: null },
  ],
  timestampMs: 1_700_000_000_000,
};

class Plugin {
  constructor(context) {
    this.out = context.output("out");
    this.other = context.output("other");
  }

  handle(record, out) {
    const [what, ...rest] = record.text().split(" ");
    return this[what](record, out, ...rest);
  }

  drop() {}

  same(record, out) {
    out.emit(this.out, record);
  }

  changed(record, out) {
    const headers = [{ name: "a", value: "b" }];
    out.emit(this.other, record, { value: "grün", key: null, headers, timestampMs: -1 });
  }

  fresh(record, out) {
    out.emit(this.out, { value: encode("new") });
    out.emit(this.other, { key: "k" });
  }

  reject(record, out) {
    out.emit(this.out, record);
    throw new Reject("as told");
  }

  retry() {
    throw new Retry(1500, "later");
  }

  lookUp(record, out, table, key) {
    out.emit(this.out, { value: new Table(table).get(key) });
  }

  ask(record, out, method, url) {
    const options = method === "POST" ? { body: "?", headers: { a: "b" }, timeoutMs: 7 } : {};
    const response = http.request(method, url, options).successful();
    out.emit(this.out, { value: response.body, key: response.header("ETag") });
  }

  tell(record, out, name) {
    out.emit(this.out, { value: secrets.get(name) });
  }

  abort() {
    throw new Abort("as told");
  }

  fail() {
    return undefined.nothing;
  }

  long() {
    throw new Reject("é".repeat(4000));
  }

  large(record, out) {
    out.emit(this.out, { value: new Uint8Array((4 << 20) + 1) });
  }

  async promise() {}

  count() {
    const seen = state.get("seen");
    state.put("seen", String(Number(seen === null ? 0 : decode(seen)) + 1));
    metrics.counterAdd("seen");
    log.info("seen");
  }

  scan() {
    for (let number = 0; number < 1500; number += 1) state.put(`k${String(number).padStart(4, "0")}`, "");
    assert.equal([...state.scan("k")].length, 1500);
    assert.equal(decode([...state.scan("k0042")][0].key), "k0042");
    state.delete("k0042");
    assert.equal(state.get("k0042"), null);
  }

  oversized() {
    state.put(new Uint8Array(1025), "");
  }

  set(record, out, clock, key, atMs) {
    timers.set(clock, key, Number(atMs));
  }

  cancel(record, out, clock, key) {
    timers.cancel(clock, key);
  }

  many() {
    for (let number = 0; number < 10_000; number += 1) timers.set("wall-time", String(number), 1);
    // The same again is no further one.
    timers.set("wall-time", "0", 2);
    timers.cancel("wall-time", "one more");
  }

  /** Does what the timer's key says. */
  onTimer({ clock, key, atMs }, out) {
    state.put("fired", key);
    out.emit(this.out, { key, value: `${clock} ${atMs}` });
    const told = {
      reject: () => { throw new Reject("as told"); },
      retry: () => { throw new Retry(1500, "later"); },
      abort: () => { throw new Abort("as told"); },
      promise: async () => {},
      again: () => timers.set(clock, key, atMs + 10),
    };
    return told[decode(key)]?.();
  }
}

const worker = () => new Worker(Plugin, { outputs: ["out", "other"] });
const bare = { key: null, value: null, headers: [], timestampMs: 0, input: 0 };

test("a record passes as it is", () => {
  assert.deepEqual(worker().call(SAME), [{ input: 0, output: "out", ...SAME }]);
});

test("what is named is changed", () => {
  const headers = [{ name: "a", value: "b" }];
  const expect = { ...bare, output: "other", value: "grün", headers, timestampMs: -1 };
  assert.deepEqual(worker().call({ ...SAME, value: "changed" }), [expect]);
});

test("what is not named is not there", () => {
  assert.deepEqual(worker().call({ value: "fresh", timestampMs: 7 }), [
    { ...bare, output: "out", value: "new", timestampMs: 7 },
    { ...bare, output: "other", key: "k", timestampMs: 7 },
  ]);
});

test("a failure withdraws what was emitted", () => {
  assert.deepEqual(worker().call("reject"), [{ input: 0, reject: "as told" }]);
  assert.deepEqual(worker().call("retry"), [{ input: 0, retry: "later", afterMs: 1500 }]);
  const reject = "an output has 4194305 bytes, more than 4194304";
  assert.deepEqual(worker().call("large"), [{ input: 0, reject }]);
});

test("an error says what it is and where", () => {
  const [{ reject }] = worker().call("fail");
  assert.match(reject, /^TypeError: .*nothing.* \(plugin\.test\.js:\d+\)$/);
});

test("a reason is cut between characters", () => {
  assert.deepEqual(worker().call("long"), [{ input: 0, reject: "é".repeat(2048) }]);
});

test("entries know their records", () => {
  const outcomes = worker().call("drop", "fresh", "reject", "drop", "same");
  assert.deepEqual(outcomes.map((outcome) => outcome.input), [1, 1, 2, 4]);
});

test("an abort fails the call and leaves no trace", () => {
  const plugin = worker();
  plugin.call("count");
  assert.throws(() => plugin.call("count", "abort"), new Abort("as told"));
  assert.deepEqual(plugin.state(), { seen: "1" });
});

test("a promise is not waited for", () => {
  assert.throws(() => worker().call("promise"), /must not be async/);
});

test("an output that is not declared is named", () => {
  assert.throws(
    () => new Worker(Plugin, { outputs: ["out"] }),
    /declares no output `other` \(it declares `out`\)/,
  );
});

test("state, metrics and log are kept", () => {
  const plugin = worker();
  plugin.call("count", "count");
  assert.deepEqual(plugin.state(), { seen: "2" });
  assert.deepEqual(plugin.metrics, { seen: 2 });
  assert.deepEqual(plugin.lines.map((line) => line.level), ["info", "info"]);
  assert.deepEqual(worker().call("scan"), []);
});

test("a key that is too large rejects the record", () => {
  const [{ reject }] = worker().call("oversized");
  assert.match(reject, /^StateError: a key of 1025 bytes, more than 1024/);
});

test("timers that are due fire in their order", () => {
  const plugin = worker();
  const given = ["set record-time late 9", "set record-time soon 3", "set wall-time wall 1"];
  assert.deepEqual(plugin.call(...given, "set record-time moved 3", "set record-time moved 5.7"), []);
  assert.deepEqual(plugin.fire("record-time", 2), []);
  const fired = (input, key, clock, timestampMs) =>
    ({ ...bare, input, output: "out", key, value: `${clock} ${timestampMs}`, timestampMs });
  assert.deepEqual(plugin.fire("record-time", 5), [
    fired(0, "soon", "record-time", 3),
    fired(1, "moved", "record-time", 5),
  ]);
  assert.deepEqual(plugin.timers(), [
    { clock: "record-time", key: "late", atMs: 9 },
    { clock: "wall-time", key: "wall", atMs: 1 },
  ]);
  assert.deepEqual(plugin.fire("wall-time", 1), [fired(0, "wall", "wall-time", 1)]);
});

test("a timer sets itself again, or is cancelled", () => {
  const plugin = worker();
  plugin.call("set record-time again 7", "set wall-time again 1", "set record-time a 1");
  plugin.call("cancel record-time a", "cancel record-time none");
  assert.equal(plugin.fire("record-time", 100).length, 1);
  assert.deepEqual(plugin.timers(), [
    { clock: "wall-time", key: "again", atMs: 1 },
    { clock: "record-time", key: "again", atMs: 17 },
  ]);
});

test("a timer that fails withdraws what it has emitted", () => {
  const plugin = worker();
  plugin.call("set wall-time reject 1", "set wall-time retry 2");
  assert.deepEqual(plugin.fire("wall-time", 2), [
    { input: 0, reject: "as told" },
    { input: 1, retry: "later", afterMs: 1500 },
  ]);
});

test("a call that fails leaves timers as they were", () => {
  const plugin = worker();
  assert.throws(() => plugin.call("set wall-time a 1", "abort"), new Abort("as told"));
  assert.deepEqual(plugin.timers(), []);
  plugin.call("set wall-time a 1", "set wall-time abort 2");
  assert.throws(() => plugin.fire("wall-time", 2), new Abort("as told"));
  assert.equal(plugin.timers().length, 2);
  assert.deepEqual(plugin.state(), {});
  plugin.call("cancel wall-time abort", "set wall-time promise 1");
  assert.throws(() => plugin.fire("wall-time", 1), /`onTimer` returned a promise/);
});

test("limits of timers are told", () => {
  const reject = (call) => worker().call(call)[0].reject;
  const long = `set wall-time ${"k".repeat(1025)} 1`;
  assert.equal(reject(long), "too large for a timer: a key of 1025 bytes, more than 1024");
  assert.match(reject("set wall-time a never"), /^RangeError: .* milliseconds, not NaN/);
  assert.match(reject("set wall-time a 1e300"), /^RangeError: .* milliseconds, not 1e\+300/);
  assert.match(reject("set no-clock a 1"), /^TypeError: .* not "no-clock"/);
  const plugin = worker();
  const more = "the call would set and cancel more than 10000 timers";
  assert.throws(() => plugin.call("many"), new TimerQuotaExceeded(more));
  assert.deepEqual(plugin.timers(), []);
});

test("no timer is set where it cannot be, or would call nothing", () => {
  class Hasty extends Plugin {
    constructor(context) {
      super(context);
      timers.set("wall-time", "a", 1);
    }
  }
  assert.throws(() => new Worker(Hasty, { outputs: ["out", "other"] }), new TimerReadOnly());
  class Deaf {
    handle() {
      timers.set("wall-time", "a", 1);
    }
  }
  assert.throws(() => new Worker(Deaf).call(""), new NoTimerHandler());
});

test("the value of a key in a table is found as it is now", () => {
  const tables = { places: { pdx: "Portland", nul: "" }, empty: {} };
  const plugin = new Worker(Plugin, { outputs: ["out", "other"], tables });
  const lookUp = (what) => plugin.call(`lookUp ${what}`)[0];
  assert.equal(lookUp("places pdx").value, "Portland");
  assert.equal(lookUp("places nul").value, "");
  assert.equal(lookUp("places xxx").value, null);
  assert.equal(lookUp("empty pdx").value, null);
  plugin.setTable("places", { pdx: encode("Portland, Oregon") });
  assert.equal(lookUp("places pdx").value, "Portland, Oregon");
  assert.equal(lookUp(`places ${"k".repeat(1024)}`).value, null);
  const reason = "too large for a table: a key of 1025 bytes, more than 1024";
  assert.equal(lookUp(`places ${"k".repeat(1025)}`).reject, reason);
});

test("a table that is not there is named with those that are", () => {
  const refused = (tables, there) => {
    const plugin = new Worker(Plugin, { outputs: ["out", "other"], tables });
    const expect = new UnknownTable(`the deployment has no table \`places\` (it has ${there})`);
    assert.throws(() => plugin.call("lookUp places pdx"), expect);
  };
  refused({ a: {}, b: {} }, "`a`, `b`");
  refused({}, "none");
  const plugin = new Worker(Plugin, { outputs: ["out", "other"], tables: { places: {} } });
  const get = (key) => () => new Table("places").get(key);
  plugin.call("drop");
  assert.equal(get("pdx")(), null);
  assert.throws(get(null), /a text or a Uint8Array is expected, not null/);
});

test("the value of a secret is found as it is now", () => {
  const plugin = new Worker(Plugin, { outputs: ["out", "other"], secrets: { "api-key": "hunter2" } });
  const tell = (name) => plugin.call(`tell ${name}`)[0].value;
  assert.equal(tell("api-key"), "hunter2");
  plugin.setSecret("api-key", "another");
  assert.equal(tell("api-key"), "another");
  plugin.setSecret("api-key", null);
  assert.equal(tell("api-key"), null);
});

const ask = (what, answerHttp) =>
  new Worker(Plugin, { outputs: ["out", "other"], answerHttp }).call(`ask ${what}`)[0];

test("a request is answered", () => {
  const asked = [];
  const answer = (request) => {
    asked.push(request);
    return new Response(201, "grün", { etag: "7" });
  };
  const { key, value } = ask("POST https://a.test/b?c", answer);
  assert.deepEqual([key, value], ["7", "grün"]);
  ask("GET http://a.test", answer);
  const headers = [{ name: "a", value: encode("b") }];
  assert.deepEqual(asked, [
    { method: "POST", url: "https://a.test/b?c", headers, body: encode("?"), timeoutMs: 7 },
    { method: "GET", url: "http://a.test", headers: [], body: encode(""), timeoutMs: null },
  ]);
});

test("a request that may be better later is retried", () => {
  for (const status of [408, 425, 429, 500, 503, 100]) {
    const { retry, afterMs } = ask("GET http://a.test", () => new Response(status));
    assert.deepEqual([retry, afterMs], [`the response has the status ${status}`, 100]);
  }
  for (const status of [301, 400, 404, 499]) {
    const { reject } = ask("GET http://a.test", () => new Response(status));
    assert.equal(reject, `the response has the status ${status}`);
  }
  assert.match(ask("GET http://a.test").retry, /nothing answers it/);
});

test("an address is taken apart", () => {
  for (const [url, scheme, authority, path] of [
    ["https://a.test", "https", "a.test", "/"],
    ["http://a.test:81/b/c?d=e/f#g", "http", "a.test:81", "/b/c?d=e/f"],
    ["https://a.test?b/c", "https", "a.test", "/?b/c"],
  ])
    assert.deepEqual(addressOf(url), { scheme, authority, path });
  for (const url of ["a.test", "ftp://a.test", "https://", "https:///path", ""])
    assert.throws(() => http.get(url), new FinalHttpError(`no request: the address ${JSON.stringify(url)}`));
  for (const timeoutMs of [-1, NaN, Infinity])
    assert.throws(() => http.get("http://a.test", { timeoutMs }), /a timeout is 0 to 86400000 milliseconds/);
});

test("what plugin.js names has to be what is imported", () => {
  check(["http", "secrets", "tables"]);
  assert.throws(() => check(["http", "tables"]), /write `import "millstream-plugin\/secrets";` there/);
  assert.throws(() => check(["http", "secrets", "tables", "x"]), /names "millstream-plugin\/x" and does not import it/);
});

test("records of batches are read in their order", () => {
  const long = {
    key: "k".repeat(70),
    value: "v".repeat(300),
    headers: [{ name: "h".repeat(100), value: "x".repeat(200) }],
    timestampMs: 2 ** 40,
  };
  const batches = [batch([long, {}], 2 ** 40), batch([], 5), batch([SAME], 9)];
  const read = [...records(Buffer.concat(batches))];
  assert.deepEqual(read.map((record) => record.offset), [2 ** 40, 2 ** 40 + 1, 9]);
  const text = (bytes) => (bytes === null ? null : decode(bytes));
  const found = read.map(({ key, value, headers, timestampMs }) => ({
    key: text(key),
    value: text(value),
    headers: headers.map((header) => ({ ...header, value: text(header.value) })),
    timestampMs,
  }));
  assert.deepEqual(found, [long, { key: null, value: null, headers: [], timestampMs: 0 }, SAME]);
  assert.equal(decode(read[2].header("trace")), "7");
  assert.equal(read[2].header("none"), null);
});

test("a batch with append time has that of the broker", () => {
  const given = batch([{ timestampMs: 5 }, { timestampMs: 9 }]);
  given[22] |= 0x08;
  assert.deepEqual([...records(given)].map((record) => record.timestampMs), [9, 9]);
});

test("UTF-8 is the same without a TextDecoder", () => {
  const texts = ["", "plain", "grün", "日本", "😀 and more", "\u0000", "x".repeat(100_000) + "ü"];
  for (const text of texts) {
    assert.equal(decodeSlowly(encode(text)), text);
    assert.deepEqual(encodeSlowly(text), encode(text));
  }
  assert.deepEqual(encodeSlowly("\ud800!"), encode("\ud800!"));
  const broken = [
    [0xff], [0xc3], [0xc0, 0x80], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80],
    [0x61, 0xe2, 0x82, 0x62], [0xf0, 0x9f, 0x98], [0x80, 0x80], [0xf5, 0x80],
  ];
  for (const bytes of broken.map((list) => Uint8Array.from(list)))
    assert.equal(decodeSlowly(bytes), decode(bytes), String(bytes));
});
