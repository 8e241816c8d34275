// The tables of the host, as a component sees them.

import hostTables from "millstream:plugin/tables@0.1.0";

import { TableKeyTooLarge, UnknownTable } from "./failures.js";
import { guest } from "./guest.js";

guest.tableNames = hostTables.names;

guest.tableGet = (table, key) => {
  try {
    return hostTables.get(table, key);
  } catch (thrown) {
    const error = thrown?.payload ?? thrown;
    if (error?.tag === "too-large") throw new TableKeyTooLarge(error.val);
    throw new UnknownTable(error?.val ?? error);
  }
};
