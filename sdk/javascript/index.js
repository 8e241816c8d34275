// Write a Millstream plugin in JavaScript: a class that is called for each record of a partition.
//
// A plugin is a WebAssembly component that the broker runs next to the data. Export a class from a
// file `plugin.js`; `millstream plugin build` makes the component, with QuickJS in it:
//
//     import { Reject } from "millstream-plugin";
//
//     // Passes on what has a key and is hot, and drops the rest.
//     export default class Plugin {
//       constructor(context) {
//         this.limit = Number(context.config.limit ?? 30);
//         this.hot = context.output("hot");
//       }
//
//       handle(record, out) {
//         const { celsius } = record.json();
//         if (record.key === null || celsius === undefined)
//           throw new Reject("a reading needs a key and celsius");
//         if (celsius > this.limit) out.emit(this.hot, record);
//       }
//     }
//
// The constructor runs once, before the first record. The object lasts as long as the worker; what
// must last longer is kept in `state`. `handle` emits any number of records. What it throws rejects the
// record and withdraws what was emitted for it; `Retry` has it handled again later, `Abort` fails the
// call. Both are called to their end: there are no promises to wait for. A plugin with a method `onTimer`
// can set `timers`, which call it.
//
// What stands outside of functions runs while the component is built.
//
// Layout:
//
// - `context.js`: what a worker is told when it starts
// - `records.js`: what comes in
// - `outputs.js`: what goes out
// - `failures.js`: a record, or a call, that fails
// - `host.js`: what the host offers: state, timers, log, metrics
// - `tables.js`, `secrets.js`, `http.js`: what it offers besides to plugins whose plugin.js imports them
// - `text.js`: UTF-8
// - `process.js`, `guest.js`: a plugin at work, in a component
// - `component.js`, `timer-component.js`: what the component exports, without timers or with them
// - `guest-tables.js`, `guest-secrets.js`, `guest-http.js`, `imported.js`: what it imports for such plugins
// - `testing.js`: runs a plugin in a test, without a host

export { Abort, Reject, Retry } from "./failures.js";
export { NoTimerHandler, TimerQuotaExceeded, TimerReadOnly, TimerTooLarge } from "./failures.js";
export { log, metrics, state, StateError, timers } from "./host.js";
export { decode, encode } from "./text.js";
