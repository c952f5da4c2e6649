//! The script contract in R and in the shell.

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::script::{handed_back, run};
use crate::server::Server;

#[tokio::test]
async fn names_are_there_in_r() {
    let code = r#"
save_result("given", list(parameters$p, input_data$a, uploaded_files, workspace, job_id, commandArgs(TRUE), ls()))
rm(list = ls())
save_result("kinds", list(none = NULL, missing = c(1, NA, NaN, Inf), named = c(a = 1, b = 2), level = factor("u"),
  date = as.Date("2026-01-02"), time = as.POSIXct(0), yes = TRUE, counts = table(c("u", "u", "v"))))
save_result("correlation", cor(data.frame(x = 1:3, y = 3:1)))
save_result("rows", load_file("d.csv"))
save_result("loaded", list(load_file("v.json"), load_file("l.jsonl"), load_file("n.txt"), nrow(load_csv_file("d.csv"))))
stopifnot(identical(load_file("b.bin"), as.raw(c(255, 0))))
save_file("out/report.json", list(a = 1))
"#;
    let tar = tar_of(&[
        ("main.R", code.as_bytes()),
        ("d.csv", b"a,b\n1,x\n2,y\n"),
        ("v.json", b"{\"k\": [1, 2.5]}\n"),
        ("l.jsonl", b"{\"n\": 1}\n{\"n\": 2}\n"),
        ("n.txt", "\u{e4}".as_bytes()),
        ("b.bin", b"\xff\x00"),
    ]);
    let server = Server::start().await;
    let asked = json!({"script": true, "parameters": {"p": [1, 2]}, "input_data": [{"a": 1}, {"a": 2}], "script_args": ["a b"], "entrypoint": "main.R"});
    let result = server.sync(&tar, &asked).await;
    assert_eq!(result["stderr"], Value::Null, "{result:#}");
    let results = handed_back(&result);
    let files = json!(["d.csv", "v.json", "l.jsonl", "n.txt", "b.bin"]);
    let given = json!([[1, 2], [1, 2], files, "/work", result["execution_id"], "a b", []]);
    assert_eq!(results["given"], given);
    let kinds = json!({"none": null, "missing": [1, null, null, null], "named": {"a": 1, "b": 2}, "level": "u",
        "date": "2026-01-02", "time": "1970-01-01T00:00:00Z", "yes": true, "counts": {"u": 2, "v": 1}});
    assert_eq!(results["kinds"], kinds);
    assert_eq!(results["correlation"], json!({"x": {"x": 1, "y": -1}, "y": {"x": -1, "y": 1}}));
    assert_eq!(results["rows"], json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]));
    assert_eq!(results["loaded"], json!([{"k": [1, 2.5]}, [{"n": 1}, {"n": 2}], "\u{e4}", 2]));
    assert_eq!(result["artifacts"][0]["path"], "out/report.json", "{result:#}");
    assert_eq!(result["artifacts"].as_array().unwrap().len(), 1, "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn misuse_is_told_in_rs_own_words() {
    let server = Server::start().await;
    for (code, says) in [
        ("save_result(1, 2)", "the key must be one string, not of type numeric"),
        (
            "save_result('k', list(a = function() 1))",
            "'k'[[\"a\"]] is of type function, which JSON can't hold",
        ),
        ("load_file('gone.csv')", "there is no file 'gone.csv'; uploaded files: none"),
        ("save_file('a', 1)", "must be text or bytes, not of type numeric"),
    ] {
        let result = run(&server, "r", code, json!({"script": true})).await;
        assert_eq!((&result["exit_code"], &result["error_type"]), (&json!(1), &json!("Error")), "{result:#}");
        assert!(result["error_message"].as_str().unwrap().contains(says), "{result:#}");
    }
    server.finish().await;
}

#[tokio::test]
async fn a_function_of_r_is_called() {
    let code = "main <- function() { cat('in main\\n'); list(n = 1, v = c(1, 2)) }\nfail <- function() stop('boom')\nvalue <- 3\nodd <- function() function() 1\nmain2 <- function() invisible(NULL)";
    let server = Server::start().await;
    let result = run(&server, "r", code, json!({"call": "main"})).await;
    assert_eq!(
        (&result["return_value"], &result["exit_code"]),
        (&json!({"n": 1, "v": [1, 2]}), &json!(0)),
        "{result:#}"
    );
    assert_eq!(result["stdout"], "in main\n", "{result:#}");
    for (name, says) in [
        ("gone", "main.R has no function `gone`; it has `fail`, `main`, `main2`, `odd`"),
        ("value", "`value` in main.R is no function, but of type numeric"),
        ("odd", "what `odd` returned is of type function, which JSON can't hold"),
        ("fail", "boom"),
    ] {
        let result = run(&server, "r", code, json!({"call": name})).await;
        assert_eq!((&result["exit_code"], &result["error_type"]), (&json!(1), &json!("Error")), "{result:#}");
        assert!(result["error_message"].as_str().unwrap().contains(says), "{result:#}");
    }
    let failed = run(&server, "r", "stop('early')\nmain <- function() 1", json!({"call": "main"})).await;
    assert_eq!((&failed["exit_code"], &failed["return_value"]), (&json!(1), &Value::Null), "{failed:#}");
    server.finish().await;
}

#[tokio::test]
async fn functions_and_variables_are_there_in_the_shell() {
    let code = r#"
set -euo pipefail
save_result given "$(jq -n --argjson p "$parameters" --argjson d "$input_data" '[$p, $d]')"
printf '%s\n' "${uploaded_files[@]}" | save_result files
save_result number 5
save_result text 'a "b"'
save_result id "$job_id"
echo '[1, {"b": null}]' | save_result piped
save_result false false
save_result nan nan
load_file 'd 1.csv' | wc -l | save_result lines
save_file out/a.txt hello
seq 3 | save_file b.txt
echo "$0 $1 $workspace"
load_file gone || echo "status $?"
save_result || echo "status $?"
bash -c 'type save_result' 2>/dev/null || echo "not in others"
nosuchcommand
"#;
    let tar = tar_of(&[("main.sh", code.as_bytes()), ("d 1.csv", b"a\n1\n")]);
    let server = Server::start().await;
    let asked = json!({"script": true, "parameters": {"n": 12_345_678_901_234_567_890_u64}, "input_data": ["a\nb"], "script_args": ["x y"]});
    let result = server.sync(&tar, &asked).await;
    let expected = json!({"given": [{"n": 12_345_678_901_234_567_890_u64}, ["a\nb"]], "files": "d 1.csv", "number": 5,
        "text": "a \"b\"", "id": result["execution_id"], "piped": [1, {"b": null}], "false": false, "nan": "nan", "lines": 2});
    assert_eq!(result["results"], expected, "{result:#}");
    assert_eq!(result["stdout"], "main.sh x y /work\nstatus 1\nstatus 2\nnot in others\n", "{result:#}");
    let stderr = result["stderr"].as_str().unwrap();
    assert!(stderr.contains("load_file: there is no file 'gone'; uploaded files: d 1.csv"), "{stderr}");
    assert!(stderr.contains("save_result: usage: "), "{stderr}");
    assert_eq!((&result["error_file"], &result["error_line"]), (&json!("main.sh"), &json!(18)), "{result:#}");
    let artifacts: Vec<_> =
        result["artifacts"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(artifacts, ["b.txt", "out/a.txt"], "{result:#}");
    server.finish().await;
}
