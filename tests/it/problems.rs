//! Every code of the table of errors, by the request that earns it.

use std::collections::BTreeSet;

use execbox::http::error::Code;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::test_app::{TestApp, fake, form, hello_tar};

/// The codes that need more than one request; the tests that earn them are named.
const ELSEWHERE: &[(&str, &str)] = &[
    ("slow_body", "bodies::a_body_that_stalls_or_drips_is_given_up"),
    ("too_many_uploads", "bodies::uploads_are_bounded"),
    ("bad_dependencies", "dependencies::what_can_not_be_installed_is_refused_by_field_and_line"),
    ("bad_host", "bodies::other_hosts_are_refused"),
    ("cross_origin", "origins::a_page_elsewhere_runs_nothing_on_a_server_without_keys"),
    ("bad_idempotency_key", "idempotency::what_is_no_key_is_refused"),
    ("idempotency_key_reused", "idempotency::another_request_under_the_key_is_refused_whatever_differs"),
    ("unauthenticated", "keys::a_key_that_is_not_valid_opens_nothing"),
    ("forbidden", "keys::each_scope_opens_its_own_routes_only"),
    ("rate_limited", "keys::a_rate_is_held_and_told"),
    ("queue_full", "faults::a_full_queue_refuses_at_once_and_loses_nothing"),
    ("not_ready", "faults::no_engine_no_work"),
    ("draining", "faults::a_drain_refuses_new_work_and_finishes_what_runs"),
    ("storage_failed", "faults::a_broken_disk_is_our_failure"),
    ("internal", "nothing: a request that earns it is a bug"),
    ("bad_request", "nothing: rules without a code of their own"),
    ("ambiguous_size", "the archive reader's own tests"),
];

/// A JSON body that runs, with one more field.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"code": "print(1)"});
    body[field] = value;
    body
}

fn config(field: &str, value: Value) -> Value {
    with("config", json!({ field: value }))
}

#[tokio::test]
async fn json_of_another_shape() {
    let app = TestApp::start().await;
    for (body, code, told) in [
        (json!(["main.py", "python"]), "bad_json", "this is a list; give an object"),
        (with("config", json!([1, 1, 64])), "bad_json", "config: this is a list"),
        (json!({"files": [["a.py", "1"]]}), "bad_json", "files[0]: this is a list"),
        (json!({"files": {"a.py": {"content": "1"}}}), "bad_json", "files.a.py: this is an object"),
        (json!({"files": {}}), "missing_code", "files"),
        (with("entry_point", json!("a.py")), "unknown_field", "did you mean `entrypoint`?"),
        (config("memory", json!(64)), "unknown_field", "did you mean `memory_mb`?"),
    ] {
        let answer = app.post_json("/api/v1/exec/sync", &body).await;
        let detail = answer.assert_problem(400, code);
        assert!(detail.contains(told), "{told} is not in {detail:?}");
    }
    app.post_json("/api/v1/exec/sync", &json!({"files": {"a.py": "print(1)"}})).await.assert_ok();
    app.finish().await;
}

#[tokio::test]
async fn json_bodies() {
    let app = TestApp::start().await;
    for (body, code, named) in [
        (json!([]), "bad_json", "this is a list; give an object"),
        (with("stdin", json!(1)), "bad_json", "stdin"),
        (with("env_vars", json!(["A"])), "bad_json", "env_vars"),
        (config("timeout_seconds", json!("1")), "bad_json", "config.timeout_seconds"),
        (with("mounts", json!([])), "unknown_field", "mounts"),
        (with("host_config", json!({"Privileged": true})), "unknown_field", "host_config"),
        (config("privileged", json!(true)), "unknown_field", "privileged"),
        (json!({}), "missing_code", "code"),
        (json!({"files": []}), "missing_code", "files"),
        (
            json!({"files": [{"name": "a.py", "content": "%", "encoding": "base64"}]}),
            "invalid_value",
            "files[0]",
        ),
        (
            json!({"code": "1", "language": "node", "python_version": "3.13"}),
            "invalid_value",
            "python_version",
        ),
        (json!({"files": [{"name": "../a.py", "content": ""}]}), "bad_path", "a.py"),
        (
            json!({"files": [{"name": "a.py", "content": ""}, {"name": "a.py", "content": ""}]}),
            "duplicate_entry",
            "a.py",
        ),
        (with("requirements_txt", json!("numpy")), "not_supported", "requirements_txt"),
        (with("docker_image", json!("python:3.11-slim")), "image_not_allowed", "docker_image"),
        (with("entrypoint", json!("../x.py")), "bad_path", "x.py"),
        (json!({"files": [{"name": "a.txt", "content": ""}]}), "no_entrypoint", ""),
        (with("language", json!("../x")), "unknown_language", "../x"),
        (with("language", json!("pyhton")), "unknown_language", "did you mean python or python3?"),
        (with("language", json!("python3.11")), "unknown_language", "did you mean python@3.11?"),
        (with("language", json!("cobol")), "unknown_language", "GET /api/v1/runtimes lists them"),
        (with("language", json!("python;rm -rf /")), "unknown_language", ""),
        (with("language", json!("p\u{443}thon")), "unknown_language", ""),
        (with("language", json!("x".repeat(10_000))), "unknown_language", ""),
        (
            with("python_version", json!("2.7")),
            "unknown_version",
            "this server has python 3.13, 3.11, not `2.7`",
        ),
        (
            json!({"files": [{"name": "main.py", "content": ""}, {"name": "main.sh", "content": ""}]}),
            "ambiguous_language",
            "",
        ),
        (json!({"code": "1", "language": "bash", "eval_last_expr": true}), "eval_not_supported", "python"),
        (config("memory_mb", json!(1e19)), "limit_too_high", "config.memory_mb"),
        (config("timeout_seconds", json!(1e12)), "limit_too_high", "config.timeout_seconds"),
        (config("pids", json!(0)), "limit_too_low", "config.pids"),
        (config("cpus", json!(-1)), "limit_too_low", "config.cpus"),
        (with("script_args", json!(["a\u{0}b"])), "bad_args", "script_args"),
        // Control characters take six bytes each in the runner's first frame.
        (with("script_args", json!(["\u{1}".repeat(131_071)])), "command_too_long", "over the limit"),
        (with("env_vars", json!({"A=B": "1"})), "bad_env", "env_vars"),
        (with("artifacts", json!(["["])), "bad_artifacts", ""),
        (with("labels", json!({"k": "v".repeat(100_000)})), "bad_labels", "labels"),
        (json!({"code": "x".repeat(2 << 20), "config": {"disk_mb": 1}}), "project_too_large", "disk_mb"),
    ] {
        let answer = app.post_json("/api/v1/exec/sync", &body).await;
        let detail = answer.assert_problem(400, code);
        assert!(detail.contains(named), "{named} is not in {detail:?}");
    }
    assert_eq!(app.sandbox.jobs(), 0, "nothing that was refused ran");
    app.finish().await;
}

#[tokio::test]
async fn multipart_bodies() {
    let app = TestApp::start().await;
    let tar = |bytes: Vec<u8>| Form::new().part("tar", Part::bytes(bytes));
    let mut fifo = tar::Header::new_gnu();
    fifo.set_entry_type(tar::EntryType::Fifo);
    fifo.set_size(0);
    let mut with_fifo = tar::Builder::new(Vec::new());
    with_fifo.append_data(&mut fifo, "main.py", &b""[..]).unwrap();
    let mut cut = hello_tar();
    cut.truncate(600);
    for (form, status, code) in [
        (Form::new().text("metadata", "{}"), 400, "missing_part"),
        (tar(hello_tar()).text("metadata", "{}").text("metadata", "{}"), 400, "unknown_part"),
        (tar(hello_tar()).part("tar", Part::bytes(hello_tar())), 400, "unknown_part"),
        (tar(hello_tar()).text("extra", "1"), 400, "unknown_part"),
        (tar(hello_tar()).text("metadata", "{"), 400, "bad_json"),
        (tar(hello_tar()).text("metadata", r#"{"mounts": 1}"#), 400, "unknown_field"),
        (tar(hello_tar()).text("metadata", r#"{"code": "1"}"#), 400, "invalid_value"),
        (tar(cut), 400, "bad_archive"),
        (tar(b"PK\x03\x04 zip".repeat(200)), 415, "unsupported_media_type"),
        (tar(with_fifo.into_inner().unwrap()), 400, "unsupported_type"),
    ] {
        app.post_form("/api/v1/exec/async", form).await.assert_problem(status, code);
    }
    let body = "--x\r\nno headers at all";
    let request = app.client.post(app.url("/api/v1/exec/sync"));
    let request = request.header("content-type", "multipart/form-data; boundary=x").body(body);
    let answer = crate::test_app::Answer::read(request.send().await.unwrap()).await;
    answer.assert_problem(400, "bad_multipart");
    assert_eq!(app.sandbox.jobs(), 0);
    app.finish().await;
}

#[tokio::test]
async fn sizes_over_the_caps() {
    let app = TestApp::with(|config| {
        config.request.archive_mb = 1;
        config.request.archive_entries = 3;
        config.request.json_kb = 256;
    })
    .await;
    let big = crate::test_app::tar_of(&[("main.py", &vec![b'x'; 2 << 20])]);
    let many = crate::test_app::tar_of(&[("a.py", b""), ("b", b""), ("c", b""), ("d", b"")]);
    for (tar, code) in [(big, "body_too_large"), (many, "too_many_entries")] {
        let form = Form::new().part("tar", Part::bytes(tar));
        app.post_form("/api/v1/exec/sync", form).await.assert_problem(413, code);
    }
    let bomb = zstd::encode_all(&*crate::test_app::tar_of(&[("main.py", &vec![0; 4 << 20])]), 3).unwrap();
    let form = Form::new().part("tar", Part::bytes(bomb));
    app.post_form("/api/v1/exec/sync", form).await.assert_problem(413, "archive_too_large");
    let metadata = json!({"stdin": "x".repeat(300 << 10)});
    app.post_form("/api/v1/exec/sync", crate::test_app::form(&metadata))
        .await
        .assert_problem(413, "body_too_large");

    let code = |kib: usize| json!({"code": "x".repeat(kib << 10)});
    app.post_json("/api/v1/eval", &code(101)).await.assert_problem(413, "code_too_large");
    assert_eq!(app.post_json("/api/v1/eval", &code(100)).await.status, 200);
    assert_eq!(app.post_json("/api/v1/exec/sync", &code(101)).await.status, 200);
    app.post_json("/api/v1/eval", &code(300)).await.assert_problem(413, "body_too_large");
    app.finish().await;
}

#[tokio::test]
async fn routes_methods_ids_and_queries() {
    let app = TestApp::start().await;
    for path in [
        "/",
        "/api",
        "/api/v1/stats",
        "/api/v1/executions",
        "/nowhere",
        "/api/v1/exec/sync/",
        "/docs/nothing.js",
    ] {
        app.get(path).await.assert_problem(404, "unknown_route");
    }
    let known = "/api/v1/executions/exe_550e8400-e29b-41d4-a716-446655440000";
    for later in ["events", "attach"] {
        app.get(&format!("{known}/{later}")).await.assert_problem(404, "unknown_route");
    }
    for (path, allow) in
        [("/api/v1/exec/sync", "POST"), ("/api/v1/exec/async", "POST"), ("/api/v1/eval", "POST")]
    {
        let answer = app.get(path).await;
        answer.assert_problem(405, "method_not_allowed");
        assert_eq!(answer.headers["allow"], allow);
    }
    let answer = app.post_json(known, &json!({})).await;
    answer.assert_problem(405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "GET, HEAD, DELETE");

    for suffix in ["", "/artifacts", "/artifacts/x", "/artifacts.tar"] {
        app.get(&format!("{known}{suffix}")).await.assert_problem(404, "not_found");
        for bad in [
            "exe_1",
            "550e8400-e29b-41d4-a716-446655440000",
            "exe_550E8400-E29B-41D4-A716-446655440000",
            "%00",
            "exe_550e8400-e29b-41d4-a716-446655440000%00",
            "..%2f..%2fetc",
            "%2e%2e%2fx",
            "%ff",
            "exe_%F0%9F%98%80",
        ] {
            app.get(&format!("/api/v1/executions/{bad}{suffix}")).await.assert_problem(400, "bad_id");
        }
    }
    app.delete(known).await.assert_problem(404, "not_found");
    app.delete("/api/v1/executions/x").await.assert_problem(400, "bad_id");
    for query in ["wait=x", "wait=-1", "wait=3601", "wait=1&wait=2", "wiat=1", "wait=1e3"] {
        app.get(&format!("{known}?{query}")).await.assert_problem(400, "bad_query");
    }
    app.delete(&format!("{known}?purge=maybe")).await.assert_problem(400, "bad_query");
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_id_and_a_foreign_one_look_the_same_but_for_the_request() {
    let app = TestApp::start().await;
    let mut seen = BTreeSet::new();
    for digit in 0..10 {
        let answer =
            app.get(&format!("/api/v1/executions/exe_550e8400-e29b-41d4-a716-44665544000{digit}")).await;
        let mut body = answer.body.clone();
        body["request_id"] = Value::Null;
        seen.insert(body.to_string());
    }
    assert_eq!(seen.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn wrong_types_and_encodings() {
    let app = TestApp::start().await;
    for (path, kind) in [
        ("/api/v1/exec/sync", "text/plain"),
        ("/api/v1/exec/sync", "application/x-www-form-urlencoded"),
        ("/api/v1/exec/async", "application/x-tar"),
        ("/api/v1/eval", "multipart/form-data; boundary=x"),
        ("/api/v1/eval", "text/plain"),
    ] {
        let request = app.client.post(app.url(path)).header("content-type", kind).body("{}");
        let answer = crate::test_app::Answer::read(request.send().await.unwrap()).await;
        answer.assert_problem(415, "unsupported_media_type");
    }
    for (encoding, status) in
        [("gzip", 415), ("br", 415), ("zstd", 415), ("identity, gzip", 415), ("Identity", 200)]
    {
        let request = app.client.post(app.url("/api/v1/eval")).json(&fake("exit 0"));
        let answer = request.header("content-encoding", encoding).send().await.unwrap();
        assert_eq!(answer.status(), status, "{encoding}");
    }
    let compressed = zstd::encode_all(&vec![0_u8; 64 << 20][..], 3).unwrap();
    let request = app.client.post(app.url("/api/v1/eval")).header("content-type", "application/json");
    let request = request.header("content-encoding", "zstd").body(compressed);
    let answer = crate::test_app::Answer::read(request.send().await.unwrap()).await;
    answer.assert_problem(415, "unsupported_encoding");
    app.post_form("/api/v1/exec/sync", form(&json!({}))).await.assert_ok();
    app.finish().await;
}

/// The tests of this file, and those named in [`ELSEWHERE`], earn every code: a new one needs a test.
#[test]
fn every_code_is_earned_by_a_test() {
    let sources = concat!(
        include_str!("problems.rs"),
        include_str!("bodies.rs"),
        include_str!("faults.rs"),
        include_str!("idempotency.rs"),
        include_str!("images.rs"),
        include_str!("executions.rs"),
        include_str!("artifacts.rs"),
        include_str!("dependencies.rs"),
        include_str!("keys.rs"),
        include_str!("origins.rs"),
        include_str!("project_files.rs"),
        include_str!("script.rs")
    );
    for code in Code::ALL {
        let word = format!("\"{}\"", code.as_str());
        assert!(sources.contains(&word), "no test earns {word}");
    }
    for (code, place) in ELSEWHERE {
        assert!(Code::from_word(code).is_some(), "{code}");
        if let Some((file, test)) = place.split_once("::") {
            assert!(sources.contains(&format!("async fn {test}")), "{file} has no {test}");
        }
    }
}

/// A query that can't be read is told by the name of its parameter, in words for its caller.
#[tokio::test]
async fn queries_name_their_parameter() {
    let app = TestApp::start().await;
    let path = app.submit("exit 0").await;
    for (query, says) in [
        ("wait=30s", "the query parameter `wait` is `30s`; give a whole number of seconds, like wait=30"),
        ("wait=", "the query parameter `wait` is ``; give a whole number"),
        ("wait=-1", "`wait` is `-1`; give a whole number"),
        ("wait=1.5", "`wait` is `1.5`; give a whole number"),
        ("wait=1&wait=2", "the query parameter `wait` comes more than once"),
        ("wiat=1", "there is no query parameter `wiat` here; did you mean `wait`? (known: wait)"),
        ("x=1", "there is no query parameter `x` here (known: wait)"),
        ("wait=99999", "wait is 99999; it may be at most 3600"),
    ] {
        let answer = app.get(&format!("{path}?{query}")).await;
        let detail = answer.assert_problem(400, "bad_query");
        assert!(detail.contains(says), "{query}: {detail}");
    }
    let answer = app.delete(&format!("{path}?purge=yes")).await;
    assert!(
        answer.assert_problem(400, "bad_query").contains("`purge` is `yes`; give purge=true or purge=false")
    );
    app.until(&path, "completed").await;
    app.finish().await;
}
