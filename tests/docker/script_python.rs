//! The script contract in Python.

use serde_json::{Value, json};

use crate::dependencies;
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

/// Tables in, and what the libraries make of them out.
const FRAMES: &str = r#"
import numpy as np
import pandas as pd

df = load_file("d.csv")
assert isinstance(df, pd.DataFrame) and isinstance(load_file("t.tsv"), pd.DataFrame)
save_result("frame", df)
save_result("described", df[["n"]].describe().loc[["mean", "max"]])
save_result("series", [df["n"], df.groupby("who")["n"].sum(), df["who"].value_counts(), df.index, df["when"]])
save_result("scalars", [np.int64(1), np.float32(1.5), np.bool_(True), np.str_("s"), np.float64("nan"), np.datetime64("NaT"),
                        np.datetime64("2026-01-02"), np.timedelta64(3, "m"), np.ma.masked, pd.NA, pd.NaT,
                        pd.Timestamp("2026-01-02"), pd.Timedelta("1s"), pd.Period("2026-01"), pd.Interval(0, 1)])
save_result("arrays", [np.array([[1, 2], [3, 4]]), np.array(["a"]), np.array([1, None], dtype=object), np.array(5),
                       np.array(["2026-01-02", "NaT"], dtype="M8[D]"), pd.Categorical(["x"]), pd.array([1, None], dtype="Int64")])
save_result("keys", {np.int64(1): 1, pd.Timestamp("2026-01-02"): 2, None: 3})
save_file("out.csv", df)
for bad in [np.array([b"x"]), {("a", "b"): 1}, pd]:
    try:
        save_result("bad", bad)
    except TypeError as error:
        print(error)
save_file("book.xlsx", df)
assert load_file("book.xlsx").equals(df)
for name in ["p.parquet", "old.xls"]:
    try:
        load_file(name)
    except ImportError as error:
        print(str(error).partition(":")[2].partition(" here")[0])
"#;

/// What only a language with the libraries has.
#[tokio::test]
async fn data_frames_are_read_and_saved() {
    let tar = tar_of(&[
        ("main.py", FRAMES.as_bytes()),
        ("d.csv", b"who,n,when\na,1,\nb,2.5,x\na,3,y\n"),
        ("t.tsv", b"a\tb\n1\t2\n"),
        ("p.parquet", b"PAR1"),
        ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ]);
    let server = Server::start().await;
    let asked = json!({"script": true, "language": "python-data", "entrypoint": "main.py"});
    let result = server.sync(&tar, &asked).await;
    let results = handed_back(&result);
    let rows = json!([{"who": "a", "n": 1.0, "when": null}, {"who": "b", "n": 2.5, "when": "x"}, {"who": "a", "n": 3.0, "when": "y"}]);
    assert_eq!(results["frame"], rows);
    let mean = 6.5 / 3.0;
    assert_eq!(results["described"], json!([{"index": "mean", "n": mean}, {"index": "max", "n": 3.0}]));
    let series =
        json!([[1.0, 2.5, 3.0], {"a": 4.0, "b": 2.5}, {"a": 2, "b": 1}, [0, 1, 2], [null, "x", "y"]]);
    assert_eq!(results["series"], series);
    let scalars = json!([
        1,
        1.5,
        true,
        "s",
        null,
        null,
        "2026-01-02",
        180.0,
        null,
        null,
        null,
        "2026-01-02T00:00:00",
        1.0,
        "2026-01",
        "(0, 1]"
    ]);
    assert_eq!(results["scalars"], scalars);
    let arrays = json!([[[1, 2], [3, 4]], ["a"], [1, null], 5, ["2026-01-02", null], ["x"], [1, null]]);
    assert_eq!(results["arrays"], arrays);
    assert_eq!(results["keys"], json!({"1": 1, "2026-01-02T00:00:00": 2, "null": 3}));
    let said: Vec<_> = result["stdout"].as_str().unwrap().lines().collect();
    assert!(said[0].ends_with("[0] is of type bytes, which JSON can't hold: b'x'"), "{said:?}");
    assert!(said[1].ends_with("has a key of type tuple, which JSON can't hold: ('a', 'b')"), "{said:?}");
    assert!(said[2].contains("is of type module"), "{said:?}");
    assert_eq!(
        said[3..],
        [" .parquet files need a library that is not", " .xls files need a library that is not"]
    );
    let paths: Vec<_> =
        result["artifacts"].as_array().unwrap().iter().map(|artifact| &artifact["path"]).collect();
    assert_eq!(paths, ["book.xlsx", "out.csv"], "{result:#}");
    server.finish().await;
}

/// The image has none that reads it; a request brings one.
#[tokio::test]
async fn parquet_is_read_and_saved_where_its_library_is() {
    let code = "import pandas as pd\ndf = pd.DataFrame({'n': [1, 2], 'who': ['a', None]})\nsave_file('t.parquet', df)\n\
                save_result('back', load_file('t.parquet'))";
    let server = Server::start_with(&["--installs", "packages"]).await;
    let asked = json!({
        "script": true, "language": "python-data", "code": code, "requirements_txt": "pyarrow==26.0.1",
    });
    let result = server.eval(&asked).await;
    assert_eq!(handed_back(&result)["back"], json!([{"n": 1, "who": "a"}, {"n": 2, "who": null}]));
    assert_eq!(result["artifacts"][0]["path"], "t.parquet", "{result:#}");
    dependencies::finish(server).await;
}
