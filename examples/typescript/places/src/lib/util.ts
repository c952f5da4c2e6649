import { readFileSync } from "node:fs";
import { join } from "node:path";

export const nextToIt = () => readFileSync(join(__dirname, "l.txt"), "utf8").trim();
export const isMain = () => require.main === module;
