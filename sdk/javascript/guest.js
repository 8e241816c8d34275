// What every component exports, and what it imports for it.

import hostMetrics from "millstream:plugin/metrics@0.1.0";
import hostState from "millstream:plugin/state@0.1.0";
import configuration from "wasi:config/store@0.2.0-rc.1";
import logging from "wasi:logging/logging@0.1.0-draft";

import Plugin from "../../plugin.js";
import { Context } from "./context.js";
import { NoTimerHandler, reasonOf } from "./failures.js";
import { StateError, log } from "./host.js";
import { process } from "./process.js";

/** The plugin, once `lifecycle.init` has made it. */
export let worker;

/** The configuration, asked of the host key by key: it sees what is asked for, and can tell what is not. */
function configurationOfHost() {
  const valueOf = (key) => (typeof key === "string" ? (configuration.get(key) ?? undefined) : undefined);
  return new Proxy(
    {},
    {
      get: (nothing, key) => valueOf(key) ?? nothing[key],
      has: (nothing, key) => valueOf(key) !== undefined || key in nothing,
      ownKeys: () => configuration.getAll().map(([key]) => key),
      getOwnPropertyDescriptor(_, key) {
        const value = valueOf(key);
        return value === undefined ? undefined : { value, enumerable: true, configurable: true };
      },
    },
  );
}

/** How a worker starts. */
export const lifecycle = {
  init({ deployment, topic, partition, outputs }) {
    try {
      const config = configurationOfHost();
      worker = new Plugin(new Context({ deployment, topic, partition, outputs, config }));
    } catch (thrown) {
      throw reasonOf(thrown);
    }
  },
};

/** What is called with records. */
export const batchHandler = {
  handle(batches) {
    try {
      return process(worker, batches);
    } catch (thrown) {
      throw reasonOf(thrown);
    }
  },
};

/** What a function of the state returns, or its error as one of ours. */
function called(call) {
  try {
    return call();
  } catch (thrown) {
    const error = thrown?.payload ?? thrown;
    throw new StateError(error?.val ?? "the state cannot be written before the first record");
  }
}

/** The host as a component sees it; `guest-….js` and `timer-component.js` add what not all have. */
export const guest = {
  log: logging.log,
  counterAdd: hostMetrics.counterAdd,
  gaugeSet: hostMetrics.gaugeSet,
  stateGet: (key) => called(() => hostState.get(key)),
  statePut: (key, value) => called(() => hostState.put(key, value)),
  stateDelete: (key) => called(() => hostState.delete(key)),
  statePage: (prefix, after, limit) => called(() => hostState.scan(prefix, after, limit)),
  timerSet() {
    throw new NoTimerHandler();
  },
  timerCancel() {
    throw new NoTimerHandler();
  },
};

// QuickJS has no console, and code that is shared with a browser may have one.
globalThis.console ??= {
  debug: (...said) => log.debug(said.join(" ")),
  log: (...said) => log.info(said.join(" ")),
  info: (...said) => log.info(said.join(" ")),
  warn: (...said) => log.warn(said.join(" ")),
  error: (...said) => log.error(said.join(" ")),
};
