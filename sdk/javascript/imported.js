// Which modules that are for some plugins alone are imported: by the words of plugin.js a component was made
// that has what these need, and here it is found out what became of that.

const found = new Set();

/** Tells that a module is imported. */
export function imported(module) {
  found.add(module);
}

/** Has the build fail unless the modules that plugin.js names are those that are imported. */
export function check(named) {
  for (const module of found)
    if (!named.includes(module))
      throw new TypeError(
        `"millstream-plugin/${module}" is imported, and not by plugin.js: write ` +
          `\`import "millstream-plugin/${module}";\` there`,
      );
  for (const module of named)
    if (!found.has(module))
      throw new TypeError(
        `plugin.js names "millstream-plugin/${module}" and does not import it: do that, or leave it out`,
      );
}
