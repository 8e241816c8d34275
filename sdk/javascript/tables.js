// What others keep, by key: compacted topics that the deployment names as its tables.
//
//     import { Table } from "millstream-plugin/tables";
//
//     export default class Plugin {
//       constructor(context) {
//         this.places = new Table("places");
//         this.joined = context.output("joined");
//       }
//
//       handle(record, out) {
//         const place = this.places.get(record.value);
//         if (place === null) throw new Reject("no such place");
//         out.emit(this.joined, record, { value: place });
//       }
//     }
//
// A table has the latest value of each key of its topic, and moves on as the topic does: also within a call.
// A look-up sees it as it is at that moment, whatever the time of the record at hand. When the first record
// is handled, each table has all that its topic had when the worker began.
//
// plugin.js imports this module, also when it is another file that looks up: by that, `millstream plugin
// build` makes a component that has tables, and deployments without any refuse it.

import { UnknownTable } from "./failures.js";
import { host, toBytes } from "./host.js";
import { imported } from "./imported.js";

export { TableKeyTooLarge, UnknownTable } from "./failures.js";

imported("tables");

/** A table of the deployment. */
export class Table {
  /**
   * The table of this name. When the deployment names none so, this throws an `UnknownTable`: in the
   * plugin's constructor, the worker does not start.
   */
  constructor(name) {
    const declared = host().tableNames();
    if (!declared.includes(name)) throw UnknownTable.among(name, declared);
    /** The deployment's name for it. */
    this.name = name;
  }

  /**
   * The value of a key as it is now, or null when there is none. The key is a text or a Uint8Array, the
   * value a Uint8Array. A key of more than 1024 bytes throws a `TableKeyTooLarge`, which rejects the record
   * unless it is caught.
   */
  get(key) {
    return host().tableGet(this.name, toBytes(key));
  }
}
