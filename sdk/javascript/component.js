// What the component exports. It is imported while the component is built, and nowhere else.

import Plugin from "../../plugin.js";
import { batchHandler, guest, lifecycle } from "./guest.js";
import { use } from "./host.js";

// It is by the words of plugin.js that another component is built for timers.
if (Plugin.prototype?.onTimer)
  throw new TypeError(
    "the plugin's class has an `onTimer` that plugin.js does not name: define it there, and call `super.onTimer`",
  );

export { batchHandler, lifecycle };

use(guest);
