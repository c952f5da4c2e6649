import * as path from "path";
import { double } from "./lib";

const label = () => path.basename(__filename);

if (require.main === module) {
    console.log(label(), double(21), path.basename(__dirname));
}
