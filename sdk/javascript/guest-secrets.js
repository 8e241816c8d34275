// The secrets of the host, as a component sees them.

import hostSecrets from "millstream:plugin/secrets@0.1.0";

import { guest } from "./guest.js";

guest.secretGet = (name) => hostSecrets.get(name) ?? null;
