//! The script contract in Python.

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::script::{handed_back, run};
use crate::server::Server;

#[tokio::test]
async fn names_are_there_without_an_import() {
    let code = r#"
import datetime, decimal
save_result("given", [parameters, input_data, uploaded_files, workspace, job_id])
save_result("kinds", {"nan": float("nan"), "inf": [float("inf")], "set": {1}, "date": datetime.date(2026, 1, 2),
                      "decimal": decimal.Decimal("1.10"), "tuple": (1, None, True), 5: "a number"})
save_result("loaded", [load_file("d.csv"), load_file("t.tsv"), load_file("v.json"), load_file("l.jsonl"), load_file("n.txt")])
assert load_file("b.bin") == b"\xff\x00"
save_result("path", save_file("out/report.json", {"a": decimal.Decimal("2")}))
save_result("twice", 1)
save_result("twice", 2)
print("said")
"#;
    let tar = tar_of(&[
        ("main.py", code.as_bytes()),
        ("d.csv", b"\xef\xbb\xbfa,b\n1,\"x, y\"\n"),
        ("t.tsv", b"a\tb\n1\t2\n"),
        ("v.json", b" {\"k\": [1, 2.5]}\n"),
        ("l.jsonl", b"{\"n\": 1}\n\n{\"n\": 2}\n"),
        ("n.txt", "\u{e4}".as_bytes()),
        ("b.bin", b"\xff\x00"),
    ]);
    let server = Server::start().await;
    let asked =
        json!({"script": true, "parameters": {"p": 1.5}, "input_data": [{"a": 1}], "entrypoint": "main.py"});
    let result = server.sync(&tar, &asked).await;
    let results = handed_back(&result);
    let files = json!(["d.csv", "t.tsv", "v.json", "l.jsonl", "n.txt", "b.bin"]);
    assert_eq!(results["given"], json!([{"p": 1.5}, [{"a": 1}], files, "/work", result["execution_id"]]));
    let kinds = json!({"nan": null, "inf": [null], "set": [1], "date": "2026-01-02", "decimal": 1.10, "tuple": [1, null, true], "5": "a number"});
    assert_eq!(results["kinds"], kinds);
    let loaded = json!([[{"a": "1", "b": "x, y"}], [{"a": "1", "b": "2"}], {"k": [1, 2.5]}, [{"n": 1}, {"n": 2}], "\u{e4}"]);
    assert_eq!(results["loaded"], loaded);
    assert_eq!((&results["twice"], &results["path"]), (&json!(2), &json!("/work/out/report.json")));
    assert_eq!(result["artifacts"][0]["path"], "out/report.json", "{result:#}");
    assert_eq!(result["artifacts"].as_array().unwrap().len(), 1, "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn an_ordinary_program_imports_them_and_its_own_modules_win() {
    let server = Server::start().await;
    let code = "from execbox import parameters, save_result\nsave_result('p', parameters['p'])";
    let result = run(&server, "python", code, json!({"parameters": {"p": 7}})).await;
    assert_eq!(handed_back(&result), &json!({"p": 7}));
    let result = run(&server, "python@3.11", code, json!({"parameters": {"p": 8}, "script": true})).await;
    assert_eq!(handed_back(&result), &json!({"p": 8}));
    let result = run(&server, "python", "print(save_result)", json!({"parameters": {}})).await;
    assert_eq!((&result["exit_code"], &result["error_type"]), (&json!(1), &json!("NameError")), "{result:#}");

    let tar = tar_of(&[
        ("main.py", b"import execbox, json, csv, helper\nprint(execbox.mine, json.mine, csv.mine)\nsave_result('a', {'b': load_file('j.json')})"),
        ("execbox.py", b"mine = 'execbox'"),
        ("json.py", b"mine = 'json'"),
        ("csv.py", b"mine = 'csv'"),
        ("helper.py", b"import execbox"),
        ("j.json", b"[1]"),
    ]);
    let result = server.sync(&tar, &json!({"script": true, "entrypoint": "main.py"})).await;
    assert_eq!(handed_back(&result), &json!({"a": {"b": [1]}}));
    assert_eq!(result["stdout"], "execbox json csv\n", "{result:#}");
    server.finish().await;
}

/// A program, the request's fields, and what must stand in the program's own words.
#[tokio::test]
async fn misuse_is_told_in_pythons_own_words_at_the_right_line() {
    let script = json!({"script": true});
    let server = Server::start().await;
    for (code, asked, kind, line, says) in [
        ("\n\nsave_result(1, 2)", &script, "TypeError", 3, "the key must be a string, not 1 of type int"),
        ("save_result('k', {'a': [object()]})", &script, "TypeError", 1, "'k'['a'][0] is of type object"),
        ("save_result('', 1)", &script, "ValueError", 1, "1 to 256 characters"),
        ("x = []\nx.append(x)\nsave_result('k', x)", &script, "ValueError", 3, "holds itself"),
        ("\nload_file('gone.csv')", &script, "FileNotFoundError", 2, "'gone.csv'; uploaded files: none"),
        ("save_file('a', 1)", &script, "TypeError", 1, "must be text or bytes, not int"),
        ("\n1 / 0", &script, "ZeroDivisionError", 2, "division by zero"),
        ("def f(:", &script, "SyntaxError", 1, "invalid syntax"),
        ("def main():\n  return 1 / 0", &json!({"call": "main"}), "ZeroDivisionError", 2, "division by zero"),
    ] {
        let result = run(&server, "python", code, asked.clone()).await;
        let told =
            (&result["exit_code"], &result["error_type"], &result["error_line"], &result["error_file"]);
        assert_eq!(told, (&json!(1), &json!(kind), &json!(line), &json!("main.py")), "{code}\n{result:#}");
        assert!(result["error_message"].as_str().unwrap().contains(says), "{code}\n{result:#}");
        let stderr = result["stderr"].as_str().unwrap();
        assert!(!stderr.contains("/usr/lib/execbox") && !stderr.contains("dist-packages"), "{stderr}");
    }
    server.finish().await;
}

#[tokio::test]
async fn a_function_is_called_and_its_value_comes_back() {
    let code = r#"
import sys
def main():
    print("in main", sys.argv[1:], __name__)
    return {"n": 1, "set": {2}}
async def later():
    return "awaited"
def odd(): return lambda: 1
def nothing(): pass
def two(a, b): pass
value = 3
if __name__ == "__main__":
    print("never")
"#;
    let server = Server::start().await;
    let result = run(&server, "python", code, json!({"call": "main", "script_args": ["a b"]})).await;
    assert_eq!(result["return_value"], json!({"n": 1, "set": [2]}), "{result:#}");
    assert_eq!(result["stdout"], "in main ['a b'] main\n", "{result:#}");
    let result = run(&server, "python", code, json!({"call": "later"})).await;
    assert_eq!(result["return_value"], "awaited", "{result:#}");
    let result = run(&server, "python", code, json!({"call": "nothing"})).await;
    assert_eq!((&result["return_value"], &result["exit_code"]), (&Value::Null, &json!(0)), "{result:#}");
    for (name, kind, says) in [
        (
            "gone",
            "NameError",
            "main.py has no function `gone`; it has `main`, `later`, `odd`, `nothing`, `two`",
        ),
        ("value", "TypeError", "`value` in main.py is no function, but of type int"),
        ("odd", "TypeError", "what `odd` returned is of type function, which JSON can't hold"),
        ("two", "TypeError", "two() missing 2 required positional arguments"),
    ] {
        let result = run(&server, "python", code, json!({"call": name})).await;
        assert_eq!((&result["exit_code"], &result["error_type"]), (&json!(1), &json!(kind)), "{result:#}");
        assert!(result["error_message"].as_str().unwrap().contains(says), "{result:#}");
        assert!(result["stderr"].as_str().unwrap().contains(says), "{result:#}");
        assert!(!result["stderr"].as_str().unwrap().contains("/usr/lib/execbox"), "{result:#}");
    }
    server.finish().await;
}

#[tokio::test]
async fn names_and_the_last_expression_go_together() {
    let server = Server::start().await;
    let asked = json!({"script": true, "eval_last_expr": true, "parameters": {"x": 6}});
    let result = run(&server, "python", "save_result('a', 1)\nparameters['x'] * 7", asked).await;
    assert_eq!(handed_back(&result), &json!({"a": 1}));
    assert_eq!(result["result"], "42", "{result:#}");
    server.finish().await;
}
