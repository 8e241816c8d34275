import { Reject, Retry } from "millstream-plugin";

/** The same request would come to the same another time: rejects the record. */
export class FinalHttpError extends Reject {
  constructor(reason: unknown, status?: number | null);
  /** The status, if there is a response. */
  readonly status: number | null;
}

/** Another time the request may have a response: the record is tried again. */
export class PassingHttpError extends Retry {
  constructor(reason: unknown, status?: number | null);
  /** The status, if there is a response. */
  readonly status: number | null;
}

export type Headers = Record<string, string | Uint8Array> | { name: string; value: string | Uint8Array }[];

/** A request, as a test is asked to answer it. */
export interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: readonly { name: string; value: Uint8Array }[];
  readonly body: Uint8Array;
  readonly timeoutMs: number | null;
}

/** What has come back. */
export class Response {
  constructor(status: number, body?: string | Uint8Array, headers?: Headers);
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: readonly { name: string; value: Uint8Array }[];
  /** The value of the first header of this name, in upper or lower case, or null. */
  header(name: string): Uint8Array | null;
  text(): string;
  json(): any;
  /** This response, if its status is 200 to 299. Throws a `FinalHttpError` or a `PassingHttpError` otherwise. */
  successful(): Response;
}

export interface Options {
  headers?: Headers;
  /** How long to wait for the connection, the response, and each further part of it. */
  timeoutMs?: number | null;
}

/**
 * Requests to the hosts that the deployment is granted. Each waits for the whole response, and throws a
 * `FinalHttpError` or a `PassingHttpError` when there is none.
 */
export const http: {
  get(url: string, options?: Options): Response;
  post(url: string, body: string | Uint8Array, options?: Options): Response;
  request(method: string, url: string, options?: Options & { body?: string | Uint8Array }): Response;
};
