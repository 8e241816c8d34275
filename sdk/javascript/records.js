// Reads record batches, whose layout is that of `wit/batch-handler.wit`.

import { decode } from "./text.js";

const LENGTH_END = 12;
const HEADER_BYTES = 61;
const APPEND_TIME_BIT = 0x08;

/** A record as it comes in. */
export class Record {
  constructor(offset, timestampMs, key, value, bytes, headersAt) {
    /** Its position in the partition. Offsets rise, and may have gaps. */
    this.offset = offset;
    /** Its time, milliseconds since 1970. */
    this.timestampMs = timestampMs;
    /** What decides its partition (a Uint8Array), or null. */
    this.key = key;
    /** The payload (a Uint8Array). null in a compacted topic: the key is deleted. */
    this.value = value;
    this._bytes = bytes;
    this._headersAt = headersAt;
  }

  /** Names and values beside the record, in their order. They are read when they are asked for. */
  get headers() {
    const cursor = new Cursor(this._bytes, this._headersAt);
    const headers = [];
    for (let left = cursor.number(); left > 0; left -= 1)
      headers.push({ name: decode(cursor.bytes()), value: cursor.bytes() });
    return headers;
  }

  /** The value of the first header of this name; null when there is none, or it has none. */
  header(name) {
    return this.headers.find((header) => header.name === name)?.value ?? null;
  }

  /** The value as UTF-8. */
  text() {
    return this.value === null ? "" : decode(this.value);
  }

  /** The value as JSON. */
  json() {
    return JSON.parse(this.text());
  }
}

/** Reads one thing after the other. */
export class Cursor {
  constructor(source, at) {
    this.source = source;
    this.at = at;
  }

  /** A zigzag number: exact up to 2^53. */
  number() {
    const source = this.source;
    let byte = source[this.at++];
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1);
    let raw = byte & 0x7f;
    let weight = 0x80;
    do {
      byte = source[this.at++];
      raw += (byte & 0x7f) * weight;
      weight *= 0x80;
    } while (byte >= 0x80);
    return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
  }

  /** Bytes with their length in front; -1 is null. */
  bytes() {
    const length = this.number();
    if (length < 0) return null;
    const begin = this.at;
    this.at += length;
    return this.source.subarray(begin, this.at);
  }
}

/** The records of one or more batches, one after the other. */
export function* records(batches) {
  const view = new DataView(batches.buffer, batches.byteOffset, batches.byteLength);
  const cursor = new Cursor(batches, 0);
  for (let batchAt = 0; batchAt < batches.length; ) {
    const baseOffset = Number(view.getBigUint64(batchAt));
    const length = view.getUint32(batchAt + 8);
    const hasAppendTime = (view.getUint16(batchAt + 21) & APPEND_TIME_BIT) !== 0;
    const baseMs = Number(view.getBigInt64(batchAt + 27));
    const appendMs = Number(view.getBigInt64(batchAt + 35));
    const count = view.getUint32(batchAt + 57);
    cursor.at = batchAt + HEADER_BYTES;
    for (let index = 0; index < count; index += 1) {
      const recordBytes = cursor.number();
      const end = cursor.at + recordBytes;
      // The attributes of a record are 0.
      cursor.at += 1;
      const timestampDelta = cursor.number();
      const offset = baseOffset + cursor.number();
      const key = cursor.bytes();
      const value = cursor.bytes();
      const timestampMs = hasAppendTime ? appendMs : baseMs + timestampDelta;
      yield new Record(offset, timestampMs, key, value, batches, cursor.at);
      cursor.at = end;
    }
    batchAt += LENGTH_END + length;
  }
}
