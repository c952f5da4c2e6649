import * as fs from "fs";
import * as path from "path";
import { fileURLToPath, pathToFileURL } from "url";
import { nextToIt, isMain } from "./lib/util";

if (require.main === module) {
    const beside = (folder: string) => fs.readFileSync(path.join(folder, "d.txt"), "utf8").trim();
    console.log(beside(__dirname), beside(path.dirname(fileURLToPath(import.meta.url))), nextToIt(), isMain());
    console.log(__filename, process.argv[1] === __filename, import.meta.url === pathToFileURL(process.argv[1]).href);
    console.log(path.relative(process.cwd(), module.filename), process.argv.slice(2).join());
}
