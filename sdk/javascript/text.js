// UTF-8, also where there is no TextDecoder.

// QuickJS has none, and a loop over the bytes costs it 0.1 µs for each. What it does in C is 20 times
// as fast: base64 and back gives a string of the bytes, which is the text where all are ASCII.
const ASCII = /^[\x00-\x7f]*$/;
const PART = 0x8000;

const decoder = globalThis.TextDecoder && new TextDecoder();
const encoder = globalThis.TextEncoder && new TextEncoder();

/** Bytes as a text. What is no UTF-8 becomes U+FFFD. */
export function decode(bytes) {
  return decoder ? decoder.decode(bytes) : decodeSlowly(bytes);
}

/** A text as bytes. */
export function encode(text) {
  return encoder ? encoder.encode(text) : encodeSlowly(text);
}

export function decodeSlowly(bytes) {
  const text = latin1(bytes);
  if (ASCII.test(text)) return text;
  try {
    return decodeURIComponent(escape(text));
  } catch {
    return replaced(bytes);
  }
}

export function encodeSlowly(text) {
  const units = ASCII.test(text) ? text : unescape(encodeURIComponent(wellFormed(text)));
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(btoa(units));
  return Uint8Array.from(units, (unit) => unit.charCodeAt(0));
}

/** A string with a character for each byte. */
function latin1(bytes) {
  if (bytes.toBase64) return atob(bytes.toBase64());
  let text = "";
  for (let at = 0; at < bytes.length; at += PART)
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + PART));
  return text;
}

/** The text with U+FFFD for halves of surrogate pairs that stand alone. */
function wellFormed(text) {
  return text.replace(/[\ud800-\udfff]/gu, "\ufffd");
}

/** As WHATWG's decoder: U+FFFD for each longest part that begins a character and does not end it. */
function replaced(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const { length, point } = character(bytes, at);
    text += String.fromCodePoint(point);
    at += length;
  }
  return text;
}

function character(bytes, at) {
  const first = bytes[at];
  if (first < 0x80) return { length: 1, point: first };
  const more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  if (first < 0xc2 || first > 0xf4) return { length: 1, point: 0xfffd };
  // Overlong forms, surrogates, and what is above U+10FFFF, are ruled out by the second byte.
  let least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  let most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  let point = first & (0x3f >> more);
  for (let next = 1; next <= more; next += 1) {
    const byte = bytes[at + next];
    if (byte === undefined || byte < least || byte > most) return { length: next, point: 0xfffd };
    point = (point << 6) | (byte & 0x3f);
    [least, most] = [0x80, 0xbf];
  }
  return { length: more + 1, point };
}
