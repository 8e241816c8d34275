// The handler, without a host.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Worker } from "millstream-plugin/testing";

import { geohash } from "./geohash.js";
import Plugin from "./plugin.js";

const EVENT = {
  id: "us2000crkq",
  time: 1517364031800,
  mag: 5.3,
  place: "50km NNW of Sangiang, Indonesia",
  lon: 118.7906,
  lat: -7.8628,
  depth_km: 15.18,
};

const worker = (config) => new Worker(Plugin, { outputs: ["features"], config });
const call = (config, changes) => worker(config).call(JSON.stringify({ ...EVENT, ...changes }));

test("an event becomes a feature", () => {
  const [{ output, key, value, headers }] = call();
  assert.equal(output, "features");
  assert.equal(key, "qws7");
  assert.deepEqual(headers, [{ name: "content-type", value: "application/geo+json" }]);
  assert.deepEqual(JSON.parse(value), {
    type: "Feature",
    id: "us2000crkq",
    geometry: { type: "Point", coordinates: [118.7906, -7.8628, -15180] },
    properties: { time: "2018-01-31T02:00:31.800Z", mag: 5.3, place: EVENT.place },
  });
});

test("the headers of the record stay in front", () => {
  const headers = [{ name: "trace", value: "7" }];
  const [outcome] = worker().call({ value: JSON.stringify(EVENT), headers });
  assert.deepEqual(outcome.headers.map((header) => header.name), ["trace", "content-type"]);
});

test("a depth that is not known is left out", () => {
  const [{ value }] = call({}, { depth_km: null });
  assert.deepEqual(JSON.parse(value).geometry.coordinates, [118.7906, -7.8628]);
});

test("what is too weak is dropped", () => {
  assert.deepEqual(call({ "min-mag": "5.4" }), []);
  assert.equal(call({ "min-mag": "5.3" }).length, 1);
  assert.deepEqual(call({ "min-mag": "0" }, { mag: null }), []);
  assert.equal(call({}, { mag: undefined }).length, 1);
});

test("what has no place is rejected", () => {
  for (const changes of [{ lat: 91 }, { lon: "east" }, { lon: null }]) {
    const [{ reject }] = call({}, changes);
    assert.match(reject, /not a number of degrees$/);
  }
  for (const value of ["", "null", "{}", "7"]) {
    const [outcome] = worker().call(value);
    assert.ok("reject" in outcome, value);
  }
});

test("a configuration that makes no sense keeps the worker from starting", () => {
  assert.throws(() => worker({ "geohash-digits": "13" }), /must be 1 to 12, not `13`/);
  assert.throws(() => worker({ "min-mag": "strong" }), /min-mag must be a number, not `strong`/);
});

test("geohashes are those that are known", () => {
  // The example of the method's first description, and corners.
  assert.equal(geohash(-5.6, 42.6, 5), "ezs42");
  assert.equal(geohash(-180, -90, 3), "000");
  assert.equal(geohash(180, 90, 3), "zzz");
});
