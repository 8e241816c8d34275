// Requests to the hosts that the deployment is granted.
//
//     import { http } from "millstream-plugin/http";
//
//     handle(record, out) {
//       const headers = { "content-type": "application/json" };
//       const response = http.post("https://geo.example.com/v1/place", record.value, { headers });
//       out.emit(this.places, record, { value: response.successful().body });
//     }
//
// A host is granted as `http=https://geo.example.com`. In the constructor no request is sent. Each call
// waits for the whole response, and no redirect is followed; a body has at most 8 MiB there and back.
//
// A failure that would be the same another time is a `FinalHttpError`, which rejects the record unless it is
// caught: the host is not granted, or the request is none. Every other one, of a request that had no
// response, is a `PassingHttpError`, which has the record tried again. A status that tells of a failure is
// none of either, unless `response.successful()` is asked.
//
// What a handler emits counts once. A request does not: a call that fails, or that a crash interrupts, is
// made again and sends again. A host that changes something should bear it, or be told by something in the
// request, such as an `idempotency-key` made of topic, partition and offset. The records of a call wait for
// one another: one call of a plugin that is granted hosts has at most 100 records, each call may send 1,000
// requests, and lasts no longer than sixty times its deadline by the clock.
//
// plugin.js imports this module, also when it is another file that asks: by that, `millstream plugin build`
// makes a component that sends requests, and deployments without any host refuse it.

import { FinalHttpError, PassingHttpError } from "./failures.js";
import { host, toBytes } from "./host.js";
import { imported } from "./imported.js";
import { decode } from "./text.js";

export { FinalHttpError, PassingHttpError } from "./failures.js";

imported("http");

const MAX_TIMEOUT_MS = 86_400_000;

// What may be better another time, of the statuses from 300 to 499.
const PASSING = [408, 425, 429];

/** What has come back. */
export class Response {
  constructor(status, body = "", headers = {}) {
    /** 200 is well. */
    this.status = status;
    /** A Uint8Array. */
    this.body = toBytes(body);
    /** `{ name, value }` each: names are texts, values Uint8Arrays. */
    this.headers = listed(headers);
  }

  /** The value of the first header of this name, in upper or lower case, or null. */
  header(name) {
    const wanted = name.toLowerCase();
    return this.headers.find((header) => header.name.toLowerCase() === wanted)?.value ?? null;
  }

  /** The body as UTF-8. */
  text() {
    return decode(this.body);
  }

  /** The body as JSON. Throws a `SyntaxError`, which rejects the record unless it is caught. */
  json() {
    return JSON.parse(this.text());
  }

  /**
   * This response, if its status is one of success: 200 to 299. Any other throws a `FinalHttpError`, from
   * 300 to 499 but for 408, 425 and 429, or a `PassingHttpError`.
   */
  successful() {
    const { status } = this;
    if (status >= 200 && status < 300) return this;
    const isFinal = status >= 300 && status < 500 && !PASSING.includes(status);
    throw new (isFinal ? FinalHttpError : PassingHttpError)(`the response has the status ${status}`, status);
  }
}

export const http = {
  /** Sends a `GET`, as `request` does. */
  get(url, options = {}) {
    return http.request("GET", url, options);
  },

  /** Sends a `POST`, as `request` does. */
  post(url, body, options = {}) {
    return http.request("POST", url, { ...options, body });
  },

  /**
   * Sends a request and waits for the whole response. Headers are an object, or a list of `{ name, value }`;
   * `host`, `connection` and `transfer-encoding` are the broker's. With `timeoutMs`, it waits no longer than
   * that for the connection, the response, and each further part of it. The broker has limits of its own,
   * which are not made longer: 5 seconds for the connection, 10 for the response, 30 for all of it.
   *
   * Throws a `FinalHttpError` or a `PassingHttpError` when there is no response.
   */
  request(method, url, { headers = {}, body = "", timeoutMs = null } = {}) {
    addressOf(url);
    if (timeoutMs !== null && !(timeoutMs >= 0 && timeoutMs <= MAX_TIMEOUT_MS))
      throw new RangeError(`a timeout is 0 to ${MAX_TIMEOUT_MS} milliseconds, not ${timeoutMs}`);
    const sent = { method: String(method), url, headers: listed(headers), body: toBytes(body), timeoutMs };
    const { status, body: found, headers: told } = host().httpSend(sent);
    return new Response(status, found, told);
  },
};

function listed(headers) {
  const pairs = Array.isArray(headers)
    ? headers
    : Object.entries(headers).map(([name, value]) => ({ name, value }));
  return pairs.map(({ name, value }) => ({ name: String(name), value: toBytes(value) }));
}

/** The scheme, the host with its port, and path and query of an address. What follows `#` is for who asks. */
export function addressOf(url) {
  const found = /^(https?):\/\/([^/?#]+)([^#]*)/.exec(url);
  if (found === null) throw new FinalHttpError(`no request: the address ${JSON.stringify(url)}`);
  const [, scheme, authority, path] = found;
  return { scheme, authority, path: path.startsWith("/") ? path : `/${path}` };
}
