// The SDK, by a plugin that does what its records say.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Abort, Reject, Retry, log, metrics, state } from "../index.js";
import { records } from "../records.js";
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
    return this[record.text()](record, out);
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
