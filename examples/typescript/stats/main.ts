import { readFileSync, writeFileSync } from "node:fs";
import { summarise, type Summary } from "./lib/stats";

const values: number[] = readFileSync(0, "utf8").split("\n").filter(Boolean).map(Number);
const summary: Summary = summarise(values);
console.log(`count ${summary.count}\nsum ${summary.sum}\nmean ${summary.mean.toFixed(2)}`);
writeFileSync("summary.json", JSON.stringify(summary));
