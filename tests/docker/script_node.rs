//! The script contract in Node and TypeScript, and the last expression in Node.

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::script::{handed_back, run};
use crate::server::Server;

const NAMES: &str = r#"
saveResult("given", [parameters, inputData, uploadedFiles, workspace, jobId === job_id]);
save_result("kinds", { nan: NaN, date: new Date(0), set: new Set([1]), map: new Map([[1, 2]]), big: 12345678901234567890n,
  typed: new Uint8Array([1, 2]), gone: undefined, none: null, half: "\ud800" });
saveResult("loaded", [loadFile("d.csv"), load_file("t.tsv"), loadFile("v.json"), loadFile("l.jsonl"), loadFile("n.txt")]);
if (!Buffer.isBuffer(loadFile("b.bin"))) throw new Error("no bytes");
saveResult("path", saveFile("out/report.json", { a: 1 }));
console.log("said");
"#;

#[tokio::test]
async fn names_are_there_in_every_kind_of_module() {
    let server = Server::start().await;
    for (language, entrypoint, first) in [
        ("node", "main.js", "require('node:fs');"),
        ("node", "main.mjs", "import 'node:fs'; await 0;"),
        ("typescript", "main.ts", "declare const parameters: any; import 'node:fs'; await 0;"),
    ] {
        let code = format!("{first}{NAMES}");
        let tar = tar_of(&[
            (entrypoint, code.as_bytes()),
            ("d.csv", b"\xef\xbb\xbfa,b\r\n1,\"x, \"\"y\"\"\"\r\n2,\r\n"),
            ("t.tsv", b"a\tb\n1\t2\n"),
            ("v.json", b"{\"k\": [1, 2.5]}\n"),
            ("l.jsonl", b"{\"n\": 1}\n\n{\"n\": 2}\n"),
            ("n.txt", "\u{e4}".as_bytes()),
            ("b.bin", b"\xff\x00"),
        ]);
        let asked = json!({"language": language, "entrypoint": entrypoint, "script": true, "parameters": {"p": 1.5}, "input_data": [1]});
        let result = server.sync(&tar, &asked).await;
        let results = handed_back(&result);
        let files = json!(["d.csv", "t.tsv", "v.json", "l.jsonl", "n.txt", "b.bin"]);
        assert_eq!(results["given"], json!([{"p": 1.5}, [1], files, "/work", true]), "{entrypoint}");
        let kinds = json!({"nan": null, "date": "1970-01-01T00:00:00.000Z", "set": [1], "map": {"1": 2},
            "big": 12_345_678_901_234_567_890_u64, "typed": [1, 2], "none": null, "half": "\u{fffd}"});
        assert_eq!(results["kinds"], kinds, "{entrypoint}");
        let table = json!([{"a": "1", "b": "x, \"y\""}, {"a": "2", "b": ""}]);
        let loaded = json!([table, [{"a": "1", "b": "2"}], {"k": [1, 2.5]}, [{"n": 1}, {"n": 2}], "\u{e4}"]);
        assert_eq!(results["loaded"], loaded, "{entrypoint}");
        assert_eq!(result["artifacts"][0]["path"], "out/report.json", "{result:#}");
        assert_eq!(result["artifacts"].as_array().unwrap().len(), 1, "{result:#}");
    }
    let result = run(&server, "node", "console.log(typeof saveResult)", json!({"parameters": {}})).await;
    assert_eq!(result["stdout"], "undefined\n", "no names unless they are asked for: {result:#}");
    server.finish().await;
}

#[tokio::test]
async fn misuse_is_told_at_the_right_line() {
    let server = Server::start().await;
    for (code, kind, line, says) in [
        ("\n\nsaveResult(1, 2)", "TypeError", 3, "the key must be a string, not 1 of type number"),
        ("saveResult('k', {a: [() => 1]})", "TypeError", 1, "\"k\"[\"a\"][0] is of type function"),
        ("\nsaveResult('k', Promise.resolve())", "TypeError", 2, "await it first"),
        ("const x = [];\nx.push(x);\nsaveResult('k', x)", "RangeError", 3, "holds itself"),
        ("\nloadFile('gone.csv')", "Error", 2, "\"gone.csv\"; uploaded files: none"),
        ("saveFile('a', 1)", "TypeError", 1, "must be text or bytes, not number"),
    ] {
        let result = run(&server, "node", code, json!({"script": true})).await;
        let told =
            (&result["exit_code"], &result["error_type"], &result["error_line"], &result["error_file"]);
        assert_eq!(told, (&json!(1), &json!(kind), &json!(line), &json!("main.js")), "{code}\n{result:#}");
        assert!(result["error_message"].as_str().unwrap().contains(says), "{code}\n{result:#}");
        assert!(!result["stderr"].as_str().unwrap().contains("at saveResult"), "{result:#}");
    }
    server.finish().await;
}

#[tokio::test]
async fn a_function_is_called_exported_or_not_and_awaited() {
    let server = Server::start().await;
    let common = r#""use strict";
async function main() { console.log("in main", process.argv.slice(2)); return { n: 1n }; }
function fail() {
  throw new RangeError("boom");
}
exports.exported = () => new Set([1]);
const odd = () => Symbol("x"), value = 3;
function nothing() {}
if (require.main === module) console.log("never");
"#;
    let newer = "import 'node:fs';\nawait 0;\nconst late = async () => [1];\nexport { late as exported };\nfunction main() { return 'x'; }\n";
    let typed =
        "const main = async (): Promise<number> => 1;\nexport function exported(): string { return 'x'; }\n";
    for (language, file, code, name, value) in [
        ("node", "main.js", common, "main", json!({"n": 1})),
        ("node", "main.js", common, "exported", json!([1])),
        ("node", "main.js", common, "nothing", Value::Null),
        ("node", "main.mjs", newer, "exported", json!([1])),
        ("node", "main.mjs", newer, "main", json!("x")),
        ("typescript", "main.ts", typed, "main", json!(1)),
        ("typescript", "main.ts", typed, "exported", json!("x")),
    ] {
        let tar = tar_of(&[(file, code.as_bytes())]);
        let asked = json!({"language": language, "entrypoint": file, "call": name, "script_args": ["a b"]});
        let result = server.sync(&tar, &asked).await;
        assert_eq!(
            (&result["return_value"], &result["exit_code"]),
            (&value, &json!(0)),
            "{name}: {result:#}"
        );
        let said = if code == common && name == "main" { json!("in main [ 'a b' ]\n") } else { Value::Null };
        assert_eq!(result["stdout"], said, "{result:#}");
    }
    for (name, kind, line, says) in [
        (
            "gone",
            "ReferenceError",
            Value::Null,
            "main.js has no function `gone`; it has `exported`, `main`, `fail`, `nothing`",
        ),
        ("value", "TypeError", Value::Null, "`value` in main.js is no function, but of type number"),
        ("odd", "TypeError", Value::Null, "what `odd` returned is of type symbol, which JSON can't hold"),
        ("class", "ReferenceError", Value::Null, "main.js has no function `class`"),
        ("fail", "RangeError", json!(4), "boom"),
    ] {
        let result = run(&server, "node", common, json!({"call": name})).await;
        let told = (&result["exit_code"], &result["error_type"], &result["error_line"]);
        assert_eq!(told, (&json!(1), &json!(kind), &line), "{result:#}");
        assert!(result["error_message"].as_str().unwrap().contains(says), "{result:#}");
        assert!(!result["stderr"].as_str().unwrap().contains("/usr/lib/execbox"), "{result:#}");
    }
    server.finish().await;
}

/// What was asked for concerns the program, not what it starts.
#[tokio::test]
async fn processes_that_a_program_starts_are_ordinary_ones() {
    let server = Server::start().await;
    let node = r#"
const { fork } = require("node:child_process");
function main() {
  if (process.send) return process.send("called");
  return new Promise((done) => {
    const said = [];
    const child = fork(__filename);
    child.on("message", (message) => said.push(message));
    child.on("exit", (code) => done({ said, code, names: typeof saveResult }));
  });
}
if (require.main === module && process.send) process.send("ran");
"#;
    let result = run(&server, "node", node, json!({"call": "main", "script": true})).await;
    assert_eq!(
        result["return_value"],
        json!({"said": ["ran"], "code": 0, "names": "function"}),
        "{result:#}"
    );
    let r = "main <- function() system2('Rscript', c('-e', shQuote('cat(exists(\"save_result\"))')), stdout = TRUE)";
    let result = run(&server, "r", r, json!({"call": "main", "script": true})).await;
    assert_eq!(result["return_value"], "FALSE", "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn the_last_expression_is_found_wherever_it_begins() {
    let server = Server::start().await;
    for (code, value) in [
        ("const x = 6; let s = 'a;b'\nfunction f() {}\nx * 7 // the answer", json!("42")),
        ("x = 6; x * 7;", json!("42")),
        (
            "import fs from 'node:fs';\nconst y = await Promise.resolve(5);\n[1, 2, 3]\n  .map(v => v * y)\n  .filter(v => v > 5);",
            json!("[ 10, 15 ]"),
        ),
        ("if (true) { 1 }\n`x\n${1 + 1}`", json!("'x\\n2'")),
        ("({a: 1})", json!("{ a: 1 }")),
        ("#!/usr/bin/env node\n6 * 7", json!("42")),
        ("const x = 1\nx\n+ 2", json!("3")),
        ("Promise.resolve('later')", json!("'later'")),
        ("undefined", Value::Null),
        ("const x = 1", Value::Null),
        ("function g() { return 1 }", Value::Null),
        ("", Value::Null),
    ] {
        let result = run(&server, "node", code, json!({"eval_last_expr": true})).await;
        assert_eq!((&result["result"], &result["exit_code"]), (&value, &json!(0)), "{code}\n{result:#}");
        assert_eq!(result["stderr"], Value::Null, "{code}\n{result:#}");
    }
    let failed = run(&server, "node", "const a = 1\n\nnull.x", json!({"eval_last_expr": true})).await;
    let told = (&failed["error_type"], &failed["error_line"], &failed["result"]);
    assert_eq!(told, (&json!("TypeError"), &json!(3), &Value::Null), "{failed:#}");
    let both = json!({"eval_last_expr": true, "script": true, "parameters": {"x": 6}});
    let result = run(&server, "node", "saveResult('a', 1)\nparameters.x * 7", both).await;
    assert_eq!((handed_back(&result), &result["result"]), (&json!({"a": 1}), &json!("42")));
    server.finish().await;
}
