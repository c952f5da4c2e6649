// Reads orders from standard input, one JSON object a line, and prints what is left in stock.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');
const { Stock } = require('./lib/stock');
const { table } = require('./lib/table');

async function main() {
  const stock = new Stock(require('./stock.json'));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line.trim() === '') continue;
    const order = JSON.parse(line);
    const taken = stock.take(order.item, order.count);
    if (taken < order.count) {
      console.error(`${order.item}: ${order.count} ordered, ${taken} in stock`);
    }
  }
  console.log(table(stock.rows()));
  fs.writeFileSync('left.json', `${JSON.stringify(Object.fromEntries(stock.rows()), null, 2)}\n`);
}

main();
