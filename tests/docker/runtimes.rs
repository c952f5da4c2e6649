//! Every folder under `images/`: its language's examples do what they say, and its two faulty programs fail as they
//! should, as do others that it has. A language that is added is tested by its folders, without a line here; `tests/it` sees that they are there.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine;
use crate::examples::{self, Example};
use crate::projects::{Folder, describe, described, repository, runtime_folders, tar};
use crate::server::{EXECBOX, Server};

/// What must be said of the faulty programs: `tests/fixtures/runtimes/LANGUAGE/{compile_error,runtime_error,...}.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Faulty {
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    reason: String,
    exit_code: Option<i64>,
    /// In what the compiler or the program wrote, to either stream.
    output_has: Vec<String>,
    error_type: String,
    /// Some languages do not say where.
    error_file: Option<String>,
    error_line: Option<u64>,
    error_message: Option<String>,
}

fn assert_fails_as_expected(expect: &Expect, result: &Value) {
    assert_eq!(result["reason"], expect.reason, "{result:#}");
    if let Some(code) = expect.exit_code {
        assert_eq!(result["exit_code"], code, "{result:#}");
    }
    let written = ["/compile/stdout", "/compile/stderr", "/stdout", "/stderr"];
    let written: String = written.iter().filter_map(|stream| result.pointer(stream)?.as_str()).collect();
    for part in &expect.output_has {
        assert!(written.contains(part.as_str()), "{part:?} was not written: {result:#}");
    }
    let told = ["error_type", "error_file", "error_line", "error_message"].map(|field| &result[field]);
    let Expect { error_type, error_file, error_line, error_message, .. } = expect;
    let expected = [json!(error_type), json!(error_file), json!(error_line), json!(error_message)];
    assert_eq!(told, expected.each_ref(), "{result:#}");
}

/// What became of a runtime, for the table; whatever is not as it should be has stopped the test.
struct Row {
    runtime: String,
    /// Of the first run of the hello, and half of some more.
    hello: [Duration; 2],
    projects: usize,
    artifacts: usize,
    /// What the two faulty programs were said to be: type, and place where the language tells it.
    faults: [String; 2],
}

/// Runs an example and holds it against what it says.
async fn run_example(server: &Server, runtime: &Folder, project: &str) -> (Duration, usize) {
    let Folder { language, name, version, .. } = runtime;
    let example: Example = describe(&format!("examples/{language}/{project}.toml"));
    let archive = tar(&repository(&format!("examples/{language}/{project}")));
    let mut metadata = example.metadata();
    metadata["language"] = json!(format!("{name}@{version}"));
    let began = Instant::now();
    let result = server.sync(&archive, &metadata).await;
    let took = began.elapsed();
    assert_eq!((&result["language"], &result["version"]), (&json!(name), &json!(version)), "{result:#}");
    examples::assert_as_expected(&example.expect, &result);
    (took, example.expect.artifacts.len())
}

/// Runs a faulty program, and says what it was found to be.
async fn run_faulty(server: &Server, runtime: &Folder, fault: &str) -> String {
    let Folder { language, name, version, .. } = runtime;
    let place = format!("tests/fixtures/runtimes/{language}/{fault}");
    let faulty: Faulty = describe(&format!("{place}.toml"));
    let metadata = json!({"language": format!("{name}@{version}")});
    let result = server.sync(&tar(&repository(&place)), &metadata).await;
    assert_fails_as_expected(&faulty.expect, &result);
    let Expect { error_type, error_file, error_line, .. } = faulty.expect;
    let line = error_line.map(|line| format!(":{line}"));
    let place = [error_file.unwrap_or_default(), line.unwrap_or_default()].concat();
    format!("{error_type} {place}").trim_end().to_owned()
}

/// Runs all that there is for a runtime.
async fn run_all(server: &Server, runtime: &Folder) -> Row {
    let (first, _) = run_example(server, runtime, "hello").await;
    let (mut projects, mut artifacts) = (0, 0);
    for project in described(&format!("examples/{}", runtime.language)) {
        if project != "hello" {
            artifacts += run_example(server, runtime, &project).await.1;
            projects += 1;
        }
    }
    let faults = [
        run_faulty(server, runtime, "compile_error").await,
        run_faulty(server, runtime, "runtime_error").await,
    ];
    for fault in described(&format!("tests/fixtures/runtimes/{}", runtime.language)) {
        if !matches!(fault.as_str(), "compile_error" | "runtime_error") {
            run_faulty(server, runtime, &fault).await;
        }
    }
    let mut again = Vec::new();
    for _ in 0..repeats() {
        again.push(run_example(server, runtime, "hello").await.0);
    }
    again.sort();
    let median = again.get(again.len() / 2).copied().unwrap_or(first);
    let runtime = format!("{} {}", runtime.name, runtime.version);
    Row { runtime, hello: [first, median], projects, artifacts, faults }
}

/// `RUNTIMES='ruby perl'` names folders; all, when nothing is said.
#[allow(clippy::disallowed_methods, reason = "a test has no settings of its own")]
fn chosen() -> Vec<Folder> {
    let chosen = std::env::var("RUNTIMES").unwrap_or_default();
    let mut folders = runtime_folders();
    folders.retain(|runtime| chosen.is_empty() || chosen.split(' ').any(|name| name == runtime.folder));
    folders
}

/// How often a hello is run again for its median: for `make languages`.
#[allow(clippy::disallowed_methods, reason = "a test has no settings of its own")]
fn repeats() -> usize {
    if std::env::var_os("FIGURES").is_some() { 5 } else { 0 }
}

/// Columns under each other.
fn print_table(rows: &[[String; 6]]) {
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for (at, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        if at == 0 {
            println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
        }
    }
}

/// Prints a table with `--nocapture`, once the server has said its last word.
#[tokio::test]
async fn every_runtime_runs_its_examples_and_tells_its_errors() {
    let server = Server::start().await;
    let runtimes = chosen();
    let each = &server;
    let runs = runtimes.iter().map(|runtime| async move {
        // One that fails does not hide the others.
        (&runtime.folder, AssertUnwindSafe(run_all(each, runtime)).catch_unwind().await)
    });
    // Figures are taken one at a time.
    let mut rows = futures::stream::iter(runs).buffered(if repeats() > 0 { 1 } else { 2 });
    let mut failed = Vec::new();
    let head =
        ["Runtime", "Hello, first and median", "Projects", "Files back", "Compile error", "Runtime error"];
    let mut table = vec![head.map(str::to_owned)];
    while let Some((folder, row)) = rows.next().await {
        let Ok(Row { runtime, hello, projects, artifacts, faults: [compile, run] }) = row else {
            failed.push(folder);
            continue;
        };
        let [first, median] = hello.map(|took| took.as_millis());
        let hello = format!("{first} ms, {median} ms");
        table.push([runtime, hello, projects.to_string(), artifacts.to_string(), compile, run]);
    }
    drop(rows);
    server.finish().await;
    print_table(&table);
    assert_eq!(failed, [""; 0], "what failed is told above");
}

/// The files that the page shows, by path: each after a line with its path.
fn files_of(page: &str) -> Vec<(&str, &str)> {
    let mut files = Vec::new();
    let parts: Vec<&str> = page.split("\n```").collect();
    for pair in parts.windows(2) {
        let path = pair[0].lines().last().and_then(|line| line.strip_prefix('`')?.strip_suffix("`:"));
        if let (Some(path), Some((_, content))) = (path, pair[1].split_once('\n')) {
            files.push((path, content));
        }
    }
    files
}

/// `docs/add-a-language.md`: its files, and what it says they do.
#[tokio::test]
async fn a_language_is_added_by_doing_what_the_page_says() {
    let page = std::fs::read_to_string(repository("docs/add-a-language.md")).unwrap();
    let root = tempfile::tempdir().unwrap();
    let files = files_of(&page);
    assert_eq!(files.len(), 6, "{files:?}");
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{content}\n")).unwrap();
    }
    let command = page.lines().find_map(|line| line.strip_prefix("$ execbox ")).unwrap();
    let mut hello = tokio::process::Command::new(EXECBOX);
    hello.args(command.split(' ')).current_dir(root.path());
    let hello = hello.output().await.unwrap();
    let expected = page.lines().skip_while(|line| !line.starts_with("$ execbox ")).nth(1).unwrap();
    let stderr = String::from_utf8_lossy(&hello.stderr);
    assert_eq!(String::from_utf8_lossy(&hello.stdout), format!("{expected}\n"), "{stderr}");

    let images = root.path().join("images");
    let server = Server::start_with(&["--images-dir", images.to_str().unwrap()]).await;
    let fault = root.path().join("tests/fixtures/runtimes/awk/compile_error");
    let faulty: Faulty = describe(fault.with_extension("toml").to_str().unwrap());
    let result = server.sync(&tar(&fault), &json!({"language": "awk"})).await;
    assert_fails_as_expected(&faulty.expect, &result);
    server.finish().await;
    engine::remove_images("awk").await;
}
