import { Abort, Reject } from "millstream-plugin";

/** The deployment names no table so: in the constructor, the worker does not start. */
export class UnknownTable extends Abort {}

/** A key has more than 1024 bytes: rejects the record. */
export class TableKeyTooLarge extends Reject {
  constructor(what: unknown);
}

/** A compacted topic, in which the latest value of each key is looked up. */
export class Table {
  /** Throws an `UnknownTable` when the deployment names none so. */
  constructor(name: string);
  readonly name: string;
  /** The value of a key as it is now, or null when there is none. */
  get(key: string | Uint8Array): Uint8Array | null;
}
