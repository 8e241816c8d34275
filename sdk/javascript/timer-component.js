// What the component of a plugin with timers exports, in the place of `component.js`.

import hostTimers from "millstream:plugin/timers@0.1.0";

import Plugin from "../../plugin.js";
import { batchHandler, guest, lifecycle, worker } from "./guest.js";
import { TimerQuotaExceeded, TimerReadOnly, TimerTooLarge, reasonOf } from "./failures.js";
import { use } from "./host.js";
import { fire } from "./process.js";

if (typeof Plugin.prototype?.onTimer !== "function")
  throw new TypeError("plugin.js names `onTimer`, but the class that it exports has no such method");

export { batchHandler, lifecycle };

/** What is called with timers. */
export const timerHandler = {
  handle(timers) {
    try {
      return fire(worker, timers);
    } catch (thrown) {
      throw reasonOf(thrown);
    }
  },
};

/** Has a function of the timers called, or throws its error as one of ours. */
function called(call) {
  try {
    call();
  } catch (thrown) {
    const error = thrown?.payload ?? thrown;
    if (error?.tag === "too-large") throw new TimerTooLarge(error.val);
    if (error?.tag === "quota-exceeded") throw new TimerQuotaExceeded(error.val);
    throw new TimerReadOnly();
  }
}

guest.timerSet = (clock, key, atMs) => called(() => hostTimers.set(clock, key, atMs));
guest.timerCancel = (clock, key) => called(() => hostTimers.cancel(clock, key));
use(guest);
