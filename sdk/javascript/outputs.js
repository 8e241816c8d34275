// Writes outcomes, whose layout is that of `wit/batch-handler.wit`.

import { encodedReason, Reject, Retry } from "./failures.js";
import { encode } from "./text.js";

const MAX_RECORD_BYTES = 4 << 20;
const MAX_HEADERS = 256;
const MAX_HEADER_NAME_BYTES = 1024;

const EMIT = 0;
const REJECT = 1;
const RETRY = 2;

/** Bytes that grow. */
export class Writer {
  constructor(room = 1024) {
    this.bytes = new Uint8Array(room);
    this.length = 0;
  }

  /** What was written. */
  written() {
    return this.bytes.subarray(0, this.length);
  }

  reserve(more) {
    const wanted = this.length + more;
    if (wanted <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(wanted, this.bytes.length * 2));
    grown.set(this.written());
    this.bytes = grown;
  }

  byte(byte) {
    this.reserve(1);
    this.bytes[this.length++] = byte;
  }

  /** A zigzag number: exact up to 2^53. */
  number(number) {
    this.reserve(10);
    let raw = number >= 0 ? number * 2 : -number * 2 - 1;
    while (raw >= 0x80) {
      this.bytes[this.length++] = (raw % 0x80) | 0x80;
      raw = Math.floor(raw / 0x80);
    }
    this.bytes[this.length++] = raw;
  }

  raw(bytes) {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Bytes with their length in front; null is -1. */
  content(bytes) {
    if (bytes === null) {
      this.number(-1);
    } else {
      this.number(bytes.length);
      this.raw(bytes);
    }
  }
}

/** Takes what a handler emits for the record at hand. */
export class Outputs {
  constructor() {
    this._written = new Writer();
    this._entryBody = new Writer();
    this._input = -1;
    this._timestampMs = 0;
    this._lastInput = 0;
    // Both as they were before the record at hand.
    this._lengthBefore = 0;
    this._lastInputBefore = 0;
  }

  /**
   * Emits a record to an output, any number for one input record:
   *
   *     out.emit(hot, record);                                    // as it is
   *     out.emit(hot, record, { value: "warmer" });               // with another value
   *     out.emit(hot, { key: "attic", value, headers: [{ name: "a", value: "b" }], timestampMs });
   *
   * What is not named is not there; the time is then that of the record at hand. Texts become UTF-8,
   * other content is a Uint8Array or null.
   *
   * Throws a `Reject`, which rejects the record at hand, when the new one has more than 4 MiB of key,
   * value and headers, more than 256 headers, or a header's name of more than 1024 bytes.
   */
  emit(output, record, changes = {}) {
    const pick = (name) => (name in changes ? changes[name] : record[name]);
    const key = content(pick("key"));
    const value = content(pick("value"));
    const headers = (pick("headers") ?? []).map((header) => ({
      name: encode(header.name),
      value: content(header.value),
    }));
    check(key, value, headers);

    const body = this._entryBody;
    body.length = 0;
    body.byte(0);
    body.number(pick("timestampMs") ?? this._timestampMs);
    // The offset's delta is 0.
    body.byte(0);
    body.content(key);
    body.content(value);
    body.number(headers.length);
    for (const header of headers) {
      body.content(header.name);
      body.content(header.value);
    }
    this._entry(EMIT);
    this._written.number(output.index);
    this._written.number(body.length);
    this._written.raw(body.written());
  }

  /** Turns to the next record. */
  _begin(timestampMs) {
    this._input += 1;
    this._timestampMs = timestampMs;
    this._lengthBefore = this._written.length;
    this._lastInputBefore = this._lastInput;
  }

  /** Withdraws what was emitted for the record at hand, and says why it failed. */
  _fail(failure) {
    this._written.length = this._lengthBefore;
    this._lastInput = this._lastInputBefore;
    if (failure instanceof Retry) {
      this._entry(RETRY);
      this._written.number(failure.afterMs);
    } else {
      this._entry(REJECT);
    }
    this._written.content(encodedReason(failure.reason));
  }

  _entry(kind) {
    this._written.number(this._input - this._lastInput);
    this._written.byte(kind);
    this._lastInput = this._input;
  }
}

function content(given) {
  if (given === null || given === undefined) return null;
  if (typeof given === "string") return encode(given);
  if (given instanceof Uint8Array) return given;
  throw new TypeError(`a Uint8Array or a text is emitted, not ${typeof given}`);
}

/** Refuses what the host would refuse. */
function check(key, value, headers) {
  let length = (key?.length ?? 0) + (value?.length ?? 0);
  for (const header of headers) {
    if (header.name.length > MAX_HEADER_NAME_BYTES)
      throw new Reject(
        `an output has a header's name of ${header.name.length} bytes, more than ${MAX_HEADER_NAME_BYTES}`,
      );
    length += header.name.length + (header.value?.length ?? 0);
  }
  if (length > MAX_RECORD_BYTES)
    throw new Reject(`an output has ${length} bytes, more than ${MAX_RECORD_BYTES}`);
  if (headers.length > MAX_HEADERS)
    throw new Reject(`an output has ${headers.length} headers, more than ${MAX_HEADERS}`);
}
