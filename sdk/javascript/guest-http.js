// Requests by `wasi:http`, of a component whose world has it. A resource is dropped before the one it comes
// from.

import handler from "wasi:http/outgoing-handler@0.2.0";
import types from "wasi:http/types@0.2.0";

import { FinalHttpError, PassingHttpError } from "./failures.js";
import { guest } from "./guest.js";
import { addressOf } from "./http.js";
import { encode } from "./text.js";

const WRITE_BYTES = 4096;
const READ_BYTES = 64 << 10;

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const SCHEMES = { http: "HTTP", https: "HTTPS" };

const INVALID = ["HTTP-request-URI-invalid", "HTTP-request-method-invalid", "HTTP-request-URI-too-long"];

const IN_WORDS = {
  "connection-refused": "the connection was refused",
  "connection-timeout": "the connection took too long",
  "connection-limit-reached": "the call has sent as many requests as it may",
  "HTTP-response-timeout": "the response took too long",
  "HTTP-response-incomplete": "the response is incomplete",
  "HTTP-request-body-size": "the request's body is too large",
  "HTTP-response-body-size": "the response's body is too large",
};

guest.httpSend = (request) => {
  const { scheme, authority, path } = addressOf(request.url);
  const place = `${scheme}://${authority}`;
  const outgoing = outgoingOf(request, scheme, authority, path);
  const body = request.body.length > 0 ? outgoing.body() : null;
  let sent;
  try {
    sent = handler.handle(outgoing, optionsOf(request.timeoutMs));
  } catch (thrown) {
    body?.drop();
    throw told(errorOf(thrown), place);
  }
  return using(sent, () => {
    if (body !== null) write(body, request.body);
    using(sent.subscribe(), (waits) => waits.block());
    const answered = sent.get();
    if (answered?.tag !== "ok") throw failed(place, IN_WORDS["HTTP-response-incomplete"]);
    if (answered.val.tag !== "ok") throw told(answered.val.val, place);
    return using(answered.val.val, (response) => ({
      status: response.status(),
      headers: using(response.headers(), (fields) =>
        fields.entries().map(([name, value]) => ({ name, value })),
      ),
      body: using(response.consume(), (incoming) => read(incoming, place)),
    }));
  });
};

function using(resource, use) {
  try {
    return use(resource);
  } finally {
    resource.drop();
  }
}

const errorOf = (thrown) => thrown?.payload ?? thrown;

function outgoingOf({ method, url, headers, body }, scheme, authority, path) {
  const fields = new types.Fields();
  const isThere = headers.some(({ name }) => name.toLowerCase() === "content-length");
  const length = { name: "content-length", value: encode(String(body.length)) };
  for (const { name, value } of body.length > 0 && !isThere ? [...headers, length] : headers)
    accepted(() => fields.append(name, value), "header", name);
  const outgoing = new types.OutgoingRequest(fields);
  const named = METHODS.includes(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method };
  accepted(() => outgoing.setMethod(named), "method", method);
  accepted(() => outgoing.setScheme({ tag: SCHEMES[scheme] }), "address", url);
  accepted(() => outgoing.setAuthority(authority), "address", url);
  accepted(() => outgoing.setPathWithQuery(path), "address", url);
  return outgoing;
}

function accepted(call, what, which) {
  try {
    call();
  } catch {
    throw new FinalHttpError(`no request: the ${what} ${JSON.stringify(which)}`);
  }
}

function optionsOf(timeoutMs) {
  if (timeoutMs === null) return null;
  const options = new types.RequestOptions();
  const ns = Math.trunc(timeoutMs) * 1_000_000;
  // The broker bounds all three, and refuses none.
  options.setConnectTimeout(ns);
  options.setFirstByteTimeout(ns);
  options.setBetweenBytesTimeout(ns);
  return options;
}

/** If it fails, the response says why. */
function write(body, content) {
  try {
    using(body.write(), (stream) => {
      for (let at = 0; at < content.length; at += WRITE_BYTES)
        stream.blockingWriteAndFlush(content.subarray(at, at + WRITE_BYTES));
    });
  } catch {
    body.drop();
    return;
  }
  try {
    types.OutgoingBody.finish(body, null);
  } catch {
    // It is the host's by now.
  }
}

/** All of a body. */
function read(incoming, place) {
  return using(incoming.stream(), (stream) => {
    const parts = [];
    for (;;) {
      try {
        parts.push(stream.blockingRead(READ_BYTES));
      } catch (thrown) {
        const ended = errorOf(thrown);
        if (ended?.tag === "closed") return joined(parts);
        if (ended?.tag !== "last-operation-failed") throw thrown;
        throw using(ended.val, (error) => {
          const code = types.httpErrorCode(error);
          return code ? told(code, place) : failed(place, error.toDebugString());
        });
      }
    }
  });
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function failed(place, how) {
  return new PassingHttpError(`the request failed: ${place}: ${how}`);
}

/** An error code as one of ours. */
function told({ tag, val }, place) {
  if (tag === "HTTP-request-denied") return new FinalHttpError(`requests to ${place} are not granted`);
  if (INVALID.includes(tag)) return new FinalHttpError(`no request: ${tag} for ${place}`);
  if (tag === "internal-error") return failed(place, val ?? tag);
  if (tag === "DNS-error") return failed(place, val?.rcode ?? "no address");
  return failed(place, IN_WORDS[tag] ?? tag);
}
