// Loaded before a program (`node --require script.cjs PROGRAM`), and does what was asked for beside running it.
//
// Without a file that EXECBOX_INPUT names, the value of the last expression is wanted: what util.inspect makes of it goes as
// {"result": "..."} to the descriptor that EXECBOX_RESULT_FD names.
//
// With such a file it says what is wanted: names without an import, a call of a function. Both the call and the last
// expression are done by a few words more at the end of the program's source, on no line of its own, so they see what is not
// exported, too, and errors keep their lines.
"use strict";

const fs = require("node:fs");
const module_ = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { isMainThread } = require("node:worker_threads");

const MAX_DEPTH = 100;
const MAX_KEY = 256;
const channel = Number(process.env.EXECBOX_RESULT_FD);
const input = process.env.EXECBOX_INPUT
    ? JSON.parse(fs.readFileSync(process.env.EXECBOX_INPUT, "utf8"))
    : { eval_last_expr: true };
const workspace = input.workspace ?? "/work";
const uploadedFiles = input.uploaded_files ?? [];

/** An error whose stack begins where our function was called. */
function fault(Kind, message, from) {
    const error = new Kind(message);
    Error.captureStackTrace(error, from);
    return error;
}

/** One line for whoever asked for the execution. */
function handBack(text) {
    let rest = Buffer.from(text + "\n");
    while (rest.length > 0) rest = rest.subarray(fs.writeSync(channel, rest));
}

/** The JSON text of a value. NaN and the infinities, which JSON lacks, become null. */
function encode(value, where, from, depth = 0) {
    if (depth > MAX_DEPTH) {
        throw fault(RangeError, `${where} is nested deeper than ${MAX_DEPTH}, or holds itself`, from);
    }
    const inner = (key) => (depth < 3 ? `${where}[${typeof key === "number" ? key : JSON.stringify(key)}]` : where);
    if (value === null || value === undefined) return "null";
    if (typeof value?.toJSON === "function" && !Buffer.isBuffer(value)) value = value.toJSON();
    switch (typeof value) {
        case "string":
            return JSON.stringify(value.toWellFormed());
        case "number":
        case "boolean":
            return JSON.stringify(value);
        case "bigint":
            return value.toString();
        case "undefined":
            return "null";
    }
    if (value === null) return "null";
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
        return encode(value.valueOf(), where, from, depth);
    }
    if (Array.isArray(value) || value instanceof Set || (ArrayBuffer.isView(value) && !Buffer.isBuffer(value) && value.map)) {
        const items = Array.from(value, (item, at) => encode(item, inner(at), from, depth + 1));
        return `[${items.join(",")}]`;
    }
    const isPlain = Object.prototype.toString.call(value) === "[object Object]" && typeof value !== "function";
    if (!isPlain && !(value instanceof Map)) {
        const kind = typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
        const hint = value instanceof Promise ? "; await it first" : "";
        throw fault(TypeError, `${where} is of type ${kind}, which JSON can't hold${hint}`, from);
    }
    const pairs = value instanceof Map ? [...value] : Object.entries(value);
    const items = pairs
        .filter(([, item]) => item !== undefined)
        .map(([key, item]) => `${JSON.stringify(String(key).toWellFormed())}:${encode(item, inner(String(key)), from, depth + 1)}`);
    return `{${items.join(",")}}`;
}

/** Puts a value into the `results` of the execution. The last under a key wins. */
function saveResult(key, value) {
    if (typeof key !== "string") {
        throw fault(TypeError, `saveResult: the key must be a string, not ${String(key)} of type ${typeof key}`, saveResult);
    }
    if (key.length < 1 || key.length > MAX_KEY) {
        throw fault(RangeError, `saveResult: a key has 1 to ${MAX_KEY} characters, not ${key.length}`, saveResult);
    }
    const text = encode(value, `saveResult: the value of ${JSON.stringify(key)}`, saveResult);
    handBack(`{"save":{"key":${JSON.stringify(key.toWellFormed())},"value":${text}}}`);
}

/**
 * The content of a file of the project, by its ending: a list of objects for CSV and TSV, the value of a JSON file, a list of
 * those of a JSON lines file; else its text, or a Buffer where it is no text.
 */
function loadFile(name) {
    const file = path.resolve(workspace, String(name));
    const ending = path.extname(file).toLowerCase();
    if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) {
        const there = uploadedFiles.join(", ") || "none";
        const error = fault(Error, `loadFile: there is no file ${JSON.stringify(name)}; uploaded files: ${there}`, loadFile);
        throw Object.assign(error, { code: "ENOENT", path: file });
    }
    if ([".parquet", ".xlsx", ".xls"].includes(ending)) {
        throw fault(Error, `loadFile: ${ending} files need a library that is not here; node:fs reads their bytes`, loadFile);
    }
    const content = fs.readFileSync(file);
    let text;
    try {
        text = new TextDecoder("utf-8", { fatal: true }).decode(content);
    } catch {
        return content;
    }
    try {
        switch (ending) {
            case ".csv":
                return table(text, ",");
            case ".tsv":
            case ".tab":
                return table(text, "\t");
            case ".json":
                return JSON.parse(text);
            case ".jsonl":
            case ".ndjson":
                return text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
        }
    } catch (error) {
        throw fault(SyntaxError, `loadFile: ${JSON.stringify(name)}: ${error.message}`, loadFile);
    }
    return text.includes("\0") ? content : text;
}

/** Rows of a table with a head (RFC 4180), as objects. */
function table(text, separator) {
    const rows = [[]];
    const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\\r\\n]*))(${separator}|\\r\\n|\\n|\\r|$)`, "y");
    while (cell.lastIndex < text.length) {
        const [, quoted, plain, end] = cell.exec(text) ?? [];
        if (end === undefined) throw new Error(`a quote is not closed in row ${rows.length}`);
        rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
        if (end === separator && cell.lastIndex === text.length) rows.at(-1).push("");
        if (end !== separator) rows.push([]);
    }
    const [head, ...body] = rows.filter((row) => row.length > 1 || row[0]);
    return body.map((row) => Object.fromEntries((head ?? []).map((name, at) => [name, row[at] ?? ""])));
}

/**
 * Writes a file that comes back as an artifact: text, bytes, or for .json any value that JSON can hold. Gives its path.
 */
function saveFile(name, content) {
    const file = path.resolve(workspace, String(name));
    const where = `saveFile: the content of ${JSON.stringify(name)}`;
    if (typeof content !== "string" && !ArrayBuffer.isView(content)) {
        if (path.extname(file).toLowerCase() !== ".json") {
            throw fault(TypeError, `${where} must be text or bytes, not ${content === null ? "null" : typeof content}`, saveFile);
        }
        content = encode(content, where, saveFile);
    }
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, content);
    return file;
}

/** Names that exist without an import, each in the two ways to write it. */
function defineNames() {
    const names = {
        parameters: input.parameters ?? {},
        inputData: input.input_data,
        uploadedFiles,
        workspace,
        jobId: process.env.EXECBOX_JOB_ID,
        saveResult,
        loadFile,
        saveFile,
    };
    for (const [name, value] of Object.entries(names)) {
        const snake = name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase());
        for (const key of [name, snake]) {
            Object.defineProperty(globalThis, key, { value, writable: true, configurable: true, enumerable: false });
        }
    }
}

const DONE = "execbox.done";
const program = path.basename(input.entrypoint ?? process.argv[1] ?? "");

/** Words that hand the function over: typeof, because there may be none. */
function withCall(source) {
    const isName = /^[A-Za-z_$][\w$]*$/.test(input.call) && parses(`typeof ${input.call}`);
    const local = isName ? `typeof ${input.call}==="undefined"?undefined:${input.call}` : "undefined";
    const exported = `typeof module==="undefined"?undefined:module.exports`;
    globalThis[Symbol.for(DONE)] = (found, exports) => void call(found, exports, source);
    // A called function's module is no main program: what stands under `if (require.main === module)` is not wanted.
    process.mainModule = undefined;
    process.argv[1] = __filename;
    return `${source}\n;globalThis[Symbol.for("${DONE}")](${local},${exported});`;
}

async function call(found, exports, source) {
    try {
        // Not in the middle of the module, and with its exports where it is one of the newer kind.
        const space = await (exports ?? import(entry));
        const target = found ?? space?.[input.call] ?? space?.default?.[input.call];
        if (target === undefined) throw new ReferenceError(`call: ${program} has no function \`${input.call}\`; ${listed(space, source)}`);
        if (typeof target !== "function") {
            throw new TypeError(`call: \`${input.call}\` in ${program} is no function, but of type ${typeof target}`);
        }
        const value = await target();
        handBack(`{"return_value":${encode(value, `call: what \`${input.call}\` returned`)}}`);
    } catch (error) {
        if (typeof error?.stack === "string") {
            const lines = error.stack.split("\n").filter((line) => !line.includes(__filename) && !line.includes("node:internal/"));
            error.stack = lines.join("\n");
            console.error(lines.length === 1 ? error.stack : error);
        } else {
            console.error(error);
        }
        process.exit(1);
    }
}

function listed(space, source) {
    const names = new Set(Object.keys(space ?? {}).filter((name) => typeof space[name] === "function"));
    for (const [, name] of source.matchAll(/^(?:export\s+)?(?:async\s+)?function\s*\*?\s*([A-Za-z_$][\w$]*)/gm)) names.add(name);
    const some = [...names].slice(0, 50).map((name) => `\`${name}\``);
    return some.length > 0 ? `it has ${some.join(", ")}` : "it has no function at all";
}

/** Statements of this many lines, counted from the end, are looked at. */
const LAST_LINES = 200;

/** Wraps the last statement, where it is an expression: it is the longest end of the source that is one, after whole
 * statements. */
function withResult(source, isModule) {
    const { inspect } = require("node:util");
    globalThis[Symbol.for(DONE)] = (value) => {
        if (value instanceof Promise) return void value.then(globalThis[Symbol.for(DONE)], () => {});
        handBack(`{"result":${value === undefined ? "null" : JSON.stringify(inspect(value).toWellFormed())}}`);
    };
    const end = source.replace(/[\s;]+$/, "").length;
    const starts = [...source.slice(0, end).matchAll(/(?:^|[\n;}])[ \t]*/g)].map((match) => match.index + match[0].length);
    for (const start of starts.slice(-LAST_LINES)) {
        // The comment after the last expression ends in its line, and so does what ends it.
        const last = source.slice(start).replace(/;\s*((?:\/\/[^\n]*\s*)*)$/, " $1");
        const code = last.replace(/^(?:\s|\/\/[^\n]*\n|\/\*[^]*?\*\/)+/, "");
        if (code === "" || /^(?:[{;]|(?:async\s+)?function\b|class\b)/.test(code)) continue;
        if (parses(`async()=>(${last}\n)`) && isWhole(source.slice(0, start), isModule)) {
            return `${source.slice(0, start)}globalThis[Symbol.for("${DONE}")]((${last}\n));`;
        }
    }
    return source;
}

function parses(source) {
    try {
        new (require("node:vm").Script)(source);
        return true;
    } catch {
        return false;
    }
}

function isWhole(text, isModule) {
    const vm = require("node:vm");
    // A line for the shell is none for a function.
    const source = text.replace(/^#!/, "//");
    const { emitWarning } = process;
    try {
        process.emitWarning = () => {};
        if (isModule) new vm.SourceTextModule(source);
        else vm.compileFunction(source, ["exports", "require", "module", "__filename", "__dirname"]);
        return true;
    } catch {
        return false;
    } finally {
        process.emitWarning = emitWarning;
    }
}

const entry = process.argv[1] && pathToFileURL(path.resolve(process.argv[1])).href;

/** Changes the source of the program itself, and of no other module. */
function changeProgram(change) {
    module_.registerHooks({
        load(url, context, next) {
            const loaded = next(url, context);
            if (url !== entry || loaded.source == null) return loaded;
            const source = loaded.source.toString();
            const isModule =
                loaded.format === "module" ||
                (loaded.format !== "commonjs" && !isWhole(source, false) && isWhole(source, true));
            return { ...loaded, source: change(source, isModule) };
        },
    });
}

// Not for the processes that the program forks.
process.execArgv = process.execArgv.filter((word) => !["--experimental-vm-modules", "--require", __filename].includes(word));
if (input.script) defineNames();
if (isMainThread && input.call) {
    changeProgram(withCall);
} else if (isMainThread && input.eval_last_expr) {
    changeProgram(withResult);
}
