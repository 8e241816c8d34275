// Tests of the handler, without a host.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Worker } from "millstream-plugin/testing";

import Plugin from "./plugin.js";

const worker = (config) => new Worker(Plugin, { outputs: ["hot"], config });

test("what is hot is told and counted", () => {
  const outcomes = worker().call(
    '{"sensor":"attic","celsius":31.5}',
    '{"sensor":"attic","celsius":30}',
    '{"sensor":"attic","celsius":33}',
  );
  assert.deepEqual(
    outcomes.map((outcome) => outcome.value),
    ['{"sensor":"attic","celsius":31.5,"times":1}', '{"sensor":"attic","celsius":33,"times":2}'],
  );
});

test("the limit is configured", () => {
  const reading = '{"sensor":"attic","celsius":25}';
  assert.equal(worker().call(reading).length, 0);
  assert.equal(worker({ limit: "20" }).call(reading).length, 1);
  assert.throws(() => worker({ limit: "warm" }), /limit must be a number, not `warm`/);
});

test("what is no reading is rejected", () => {
  for (const value of ["", "[]", '{"sensor":"attic"}', '{"sensor":1,"celsius":"hot"}']) {
    const [outcome] = worker().call(value);
    assert.ok("reject" in outcome, value);
  }
});
