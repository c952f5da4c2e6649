// Names that lead to the source file of a program, not to the one that is made of all its files: __dirname, __filename,
// module, require.main, import.meta.url and process.argv[1]. The stack of whoever asks says which source that is.
"use strict";

const path = require("node:path");
const { fileURLToPath, pathToFileURL } = require("node:url");

const built = /^\/work\/\.execbox\/[^/]*\.mjs$/;
const modules = new Map();

/** The source file of the code that has asked. */
function filename() {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 8;
    const lines = String(new Error().stack).split("\n");
    Error.stackTraceLimit = limit;
    for (const line of lines.slice(1)) {
        const place = /(?:\(| at |^ *at )((?:file:\/\/)?\/[^()]*):[0-9]+:[0-9]+\)?$/.exec(line)?.[1];
        const file = place?.startsWith("file:") ? fileURLToPath(place) : place;
        if (file && file !== __filename) return file;
    }
    return process.argv[1];
}

function moduleOf(file) {
    if (!modules.has(file)) {
        const made = { id: file, filename: file, path: path.dirname(file), exports: {}, loaded: false, children: [], paths: [] };
        modules.set(file, made);
    }
    return modules.get(file);
}

globalThis.execboxSource = {
    get filename() {
        return filename();
    },
    get dirname() {
        return path.dirname(filename());
    },
    get url() {
        return pathToFileURL(filename()).href;
    },
    /** The program begins, with its own `require`. In a call it is no main program, and has another argv[1]. */
    start(require, entry) {
        if (!built.test(process.argv[1])) return;
        process.argv[1] = entry;
        require.main = moduleOf(entry);
    },
};
Object.defineProperty(globalThis, "execboxSource", { enumerable: false });
Object.defineProperty(globalThis, "module", {
    configurable: true,
    enumerable: false,
    get: () => moduleOf(filename()),
    set: (value) => Object.defineProperty(globalThis, "module", { value, writable: true }),
});
