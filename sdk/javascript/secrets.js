// What an operator has given to this deployment alone: passwords, keys, tokens.
//
//     import { secrets } from "millstream-plugin/secrets";
//
//     const key = secrets.get("api-key");
//
// Ask when the value is needed: the operator may set it anew at any time. In what the plugin logs, and in its
// reasons and errors, the host masks what it has told.
//
// plugin.js imports this module, also when it is another file that asks: by that, `millstream plugin build`
// makes a component that has secrets, and deployments without any refuse it.

import { host } from "./host.js";
import { imported } from "./imported.js";

imported("secrets");

export const secrets = {
  /**
   * The value of a secret as it is now. null: the deployment is not granted one of this name, or the operator
   * has taken it away.
   */
  get(name) {
    return host().secretGet(String(name));
  },
};
