'use strict';

/** How many of each item are there. */
class Stock {
  #counts;

  constructor(counts) {
    this.#counts = new Map(Object.entries(counts));
  }

  /** Takes up to this many of an item, and returns how many there were. */
  take(item, count) {
    const there = this.#counts.get(item) ?? 0;
    const taken = Math.min(there, count);
    if (taken > 0) this.#counts.set(item, there - taken);
    return taken;
  }

  rows() {
    return [...this.#counts].sort(([a], [b]) => a.localeCompare(b));
  }
}

module.exports = { Stock };
