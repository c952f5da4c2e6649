//! Every hostile project under `tests/fixtures/`: run through the public route, held against what its description
//! expects, and followed by a look for anything left.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::patience::slower;
use crate::projects::{describe, described, repository, tar};
use crate::server::Server;
use crate::sweep::Sweep;

/// User ids that each fixture's server may give.
const UIDS: u32 = 100;

/// `tests/fixtures/NAME.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    language: Option<String>,
    entrypoint: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    /// Bytes of standard input, all of them `x`.
    #[serde(default)]
    stdin_bytes: usize,
    #[serde(default)]
    eval_last_expr: bool,
    #[serde(default)]
    config: Map<String, Value>,
    artifacts: Option<Vec<String>>,
    /// Flag of the server, not of the request.
    artifact_count: Option<u64>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: Option<String>,
    reason: Option<String>,
    exit_code: Option<i64>,
    stdout: Option<String>,
    stdout_base64: Option<String>,
    #[serde(default)]
    stdout_has: Vec<String>,
    #[serde(default)]
    stdout_lacks: Vec<String>,
    #[serde(default)]
    stderr_has: Vec<String>,
    #[serde(default)]
    compile_stderr_has: Vec<String>,
    #[serde(default)]
    error_has: Vec<String>,
    #[serde(default)]
    truncated: Vec<String>,
    artifacts: Option<Vec<String>>,
    artifact_count: Option<usize>,
    result: Option<String>,
    within_seconds: Option<f64>,
}

/// The limits that the fixture asks for; on a slower machine with more time.
fn config(fixture: &Fixture) -> Map<String, Value> {
    let mut config = fixture.config.clone();
    if let Some(seconds) = config.get_mut("timeout_seconds") {
        *seconds = json!(seconds.as_u64().unwrap() * u64::from(slower()));
    }
    config
}

fn metadata(fixture: &Fixture) -> Value {
    let mut metadata = json!({
        "script_args": fixture.args,
        "stdin": "x".repeat(fixture.stdin_bytes),
        "eval_last_expr": fixture.eval_last_expr,
        "config": config(fixture),
    });
    for (field, value) in [("language", &fixture.language), ("entrypoint", &fixture.entrypoint)] {
        if let Some(value) = value {
            metadata[field] = json!(value);
        }
    }
    if let Some(globs) = &fixture.artifacts {
        metadata["artifacts"] = json!(globs);
    }
    metadata
}

fn text<'a>(result: &'a Value, field: &str) -> &'a str {
    result.pointer(field).and_then(Value::as_str).unwrap_or_default()
}

fn assert_contains(result: &Value, field: &str, parts: &[String]) {
    for part in parts {
        assert!(text(result, field).contains(part.as_str()), "{field} lacks {part:?}: {result:#}");
    }
}

fn assert_as_expected(expect: &Expect, result: &Value) {
    if let Some(code) = expect.exit_code {
        assert_eq!(result["exit_code"], code, "{result:#}");
    }
    for (field, expected) in [
        ("/status", &expect.status),
        ("/reason", &expect.reason),
        ("/stdout", &expect.stdout),
        ("/stdout_base64", &expect.stdout_base64),
        ("/result", &expect.result),
    ] {
        if let Some(expected) = expected {
            assert_eq!(text(result, field), expected, "{field}: {result:#}");
        }
    }
    assert_contains(result, "/stdout", &expect.stdout_has);
    assert_contains(result, "/stderr", &expect.stderr_has);
    assert_contains(result, "/compile/stderr", &expect.compile_stderr_has);
    assert_contains(result, "/error", &expect.error_has);
    for part in &expect.stdout_lacks {
        assert!(!text(result, "/stdout").contains(part.as_str()), "stdout has {part:?}: {result:#}");
    }
    for stream in ["stdout", "stderr", "artifacts", "results"] {
        let expected = expect.truncated.iter().any(|truncated| truncated == stream);
        assert_eq!(result["truncated"][stream], expected, "truncated.{stream}: {result:#}");
    }
    assert_artifacts(expect, result);
    if let Some(seconds) = expect.within_seconds {
        let timings = &result["timings"];
        let spent = timings["run_ms"].as_f64().unwrap() + timings["compile_ms"].as_f64().unwrap();
        assert!(spent <= seconds * 1000.0 * f64::from(slower()), "it took {spent} ms: {result:#}");
    }
}

fn assert_artifacts(expect: &Expect, result: &Value) {
    let artifacts = result["artifacts"].as_array().cloned().unwrap_or_default();
    if let Some(expected) = &expect.artifacts {
        let paths: Vec<_> = artifacts.iter().map(|artifact| artifact["path"].as_str().unwrap()).collect();
        assert_eq!(paths, *expected, "{result:#}");
    }
    if let Some(count) = expect.artifact_count {
        assert_eq!(artifacts.len(), count, "{result:#}");
    }
}

/// Its containers run as users that no other test's do, so that a process that is left can be told.
fn uid_base(name: &str) -> u32 {
    let place = described("tests/fixtures").iter().position(|fixture| fixture == name).unwrap();
    30_000 + u32::try_from(place).unwrap() * UIDS
}

async fn behave(name: &str) {
    let fixture: Fixture = describe(&format!("tests/fixtures/{name}.toml"));
    let uid_base = uid_base(name);
    let mut flags = vec!["--uid-base".to_owned(), uid_base.to_string()];
    flags.extend(
        fixture.artifact_count.iter().flat_map(|count| ["--artifact-count".to_owned(), count.to_string()]),
    );
    let server = Server::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let sweep = Sweep::before(&server, uid_base..uid_base + UIDS).await;
    let archive = tar(&repository(&format!("tests/fixtures/{name}")));
    let result = server.sync(&archive, &metadata(&fixture)).await;
    assert_as_expected(&fixture.expect, &result);
    assert_eq!(result["attempt"], 1, "it must not be tried again: {result:#}");
    sweep.after(&server).await;
    server.finish().await;
}

macro_rules! behaviours {
    ($($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            behave(stringify!($name)).await;
        })*

        #[test]
        fn every_fixture_has_its_test() {
            assert_eq!(described("tests/fixtures"), [$(stringify!($name)),*]);
        }
    };
}

behaviours! {
    caches_at_home
    closes_stdout
    compile_bomb
    compile_error
    daemonises
    deaf_to_stdin
    endless_line
    eval_last_expr
    eval_last_expr_exits
    exits_nonzero
    fd_bomb
    fills_disk
    fills_result_channel
    fills_tmp
    forged_frames
    fork_bomb
    hard_links
    hoards_memory
    ignores_sigterm
    inode_bomb
    invalid_utf8
    long_names
    many_artifacts
    memory_bomb
    memory_bomb_child
    never_reads_stdin
    opens_sockets
    output_flood
    output_over_the_cap
    reaches_for_the_runner
    reads_proc
    replaces_devices
    segfault
    setuid_search
    short_children
    shuts_its_workspace
    sleeps_forever
    sparse_file
    sparse_file_caught
    stops_itself
    storms_disk
    symlink_artifacts
    thread_bomb
    unflushed_c
    unflushed_cpp
    unflushed_ocaml
    unflushed_perl
    unflushed_ruby
    writes_bytewise
    writes_outside
}
