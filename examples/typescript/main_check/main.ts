const os = require("os");

function main(): void {
    console.log(typeof os.EOL, require.main === module, __dirname);
}

if (require.main === module) {
    main();
}
