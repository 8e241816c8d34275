// Makes a GeoJSON feature (RFC 7946) of each earthquake, keyed by where it was.
//
// In: one JSON object a record, as in `tests/fixtures/earthquakes.ndjson`. Out, on `features`: the feature,
// with a header `content-type`. The key is a geohash, so that events near each other share a partition.

import { Reject, metrics } from "millstream-plugin";

import { geohash } from "./geohash.js";

const CONTENT_TYPE = { name: "content-type", value: "application/geo+json" };

const DEFAULT_DIGITS = 4;
const MAX_DIGITS = 12;

export default class Plugin {
  constructor(context) {
    this.digits = number(context, "geohash-digits", DEFAULT_DIGITS);
    if (!Number.isInteger(this.digits) || this.digits < 1 || this.digits > MAX_DIGITS)
      throw new Error(`geohash-digits must be 1 to ${MAX_DIGITS}, not \`${this.digits}\``);
    this.minMag = number(context, "min-mag", null);
    this.features = context.output("features");
  }

  handle(record, out) {
    const { id, lon, lat, depth_km: depthKm, ...properties } = record.json();
    for (const [name, degrees, most] of [["lon", lon, 180], ["lat", lat, 90]])
      if (typeof degrees !== "number" || Math.abs(degrees) > most)
        throw new Reject(`\`${name}\` is ${JSON.stringify(degrees)}, not a number of degrees`);
    const { mag } = properties;
    if (this.minMag !== null && !(typeof mag === "number" && mag >= this.minMag)) {
      metrics.counterAdd("too_weak");
      return;
    }
    const feature = {
      type: "Feature",
      id,
      geometry: { type: "Point", coordinates: coordinates(lon, lat, depthKm) },
      properties: { ...properties, time: new Date(properties.time).toISOString() },
    };
    out.emit(this.features, record, {
      key: geohash(lon, lat, this.digits),
      value: JSON.stringify(feature),
      headers: [...record.headers, CONTENT_TYPE],
    });
  }
}

// The third is the height above the ellipsoid in metres.
function coordinates(lon, lat, depthKm) {
  return typeof depthKm === "number" ? [lon, lat, Math.round(depthKm * -1000)] : [lon, lat];
}

function number(context, name, usual) {
  const text = context.config[name];
  if (text === undefined) return usual;
  const found = Number(text);
  if (text.trim() === "" || Number.isNaN(found)) throw new Error(`${name} must be a number, not \`${text}\``);
  return found;
}
