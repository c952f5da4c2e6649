'use strict';

/** Rows of a name and a number, in two columns. */
function table(rows) {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, count]) => `${name.padEnd(width)} ${String(count).padStart(4)}`).join('\n');
}

module.exports = { table };
