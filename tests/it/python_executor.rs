//! Bodies in the exact shape in which python-executor's own Python and Go clients and its documentation send them.
//! Recorded by reading those clients; they must work here unchanged.

use serde_json::{Value, json};

use crate::test_app::{TestApp, hello_tar};

const BOUNDARY: &str = "3f9c5b2e8d7a41c6b0e1f2a3d4c5b6a7";

/// How each client writes a part's head: (tar, metadata).
const PYTHON: (&str, &str) = (
    "Content-Disposition: form-data; name=\"tar\"; filename=\"code.tar\"\r\nContent-Type: application/octet-stream",
    "Content-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json",
);
const GO: (&str, &str) = (
    "Content-Disposition: form-data; name=\"tar\"; filename=\"code.tar\"\r\nContent-Type: application/octet-stream",
    "Content-Disposition: form-data; name=\"metadata\"",
);

async fn send(app: &TestApp, route: &str, heads: (&str, &str), metadata: &str) -> crate::test_app::Answer {
    let mut body = format!("--{BOUNDARY}\r\n{}\r\n\r\n", heads.0).into_bytes();
    body.extend(hello_tar());
    let rest = format!("\r\n--{BOUNDARY}\r\n{}\r\n\r\n{metadata}\r\n--{BOUNDARY}--\r\n", heads.1);
    body.extend(rest.as_bytes());
    let request = app.client.post(app.url(&format!("/api/v1/exec/{route}")));
    let request = request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    crate::test_app::Answer::read(request.body(body).send().await.unwrap()).await
}

/// What the Python client's `ExecutionResult.from_dict` and the Go client's struct need.
fn assert_readable(result: &Value) {
    assert!(result["execution_id"].as_str().unwrap().starts_with("exe_"));
    assert!(
        ["pending", "running", "completed", "failed", "killed"].contains(&result["status"].as_str().unwrap())
    );
    assert!(result.as_object().unwrap().contains_key("exit_code"));
    for field in ["stdout", "stderr", "error", "result"] {
        assert!(result[field].is_string() || result[field].is_null(), "{field}");
    }
    assert!(result["duration_ms"].is_u64() || result["duration_ms"].is_null(), "Go reads an int64");
    for field in ["started_at", "finished_at"] {
        // `datetime.fromisoformat` before Python 3.11 takes three or six digits, after the client cut the Z off.
        let time = result[field].as_str().unwrap();
        assert_eq!((time.len(), &time[23..]), (24, "Z"), "{time}");
    }
}

#[tokio::test]
async fn multipart_of_both_clients() {
    let app = TestApp::start().await;
    let python_defaults = r#"{"entrypoint": "main.py", "config": {"timeout_seconds": 60, "network_disabled": true,
        "memory_mb": 1024, "disk_mb": 2048, "cpu_shares": 1024}}"#;
    let python_full = r#"{"entrypoint": "main.py", "stdin": "input data", "env_vars": ["API_KEY=secret", "DEBUG=true"],
        "script_args": ["--verbose", "input.txt"]}"#;
    let go_cli = r#"{"entrypoint":"main.py","config":{"network_disabled":true}}"#;
    let go_network = r#"{"entrypoint":"main.py","config":{"timeout_seconds":60,"memory_mb":2048}}"#;
    let go_empty = r#"{"entrypoint":""}"#;
    for (heads, metadata) in [
        (PYTHON, r#"{"entrypoint": "main.py"}"#),
        (PYTHON, python_defaults),
        (PYTHON, python_full),
        (GO, go_cli),
        (GO, go_network),
        (GO, go_empty),
    ] {
        let sync = send(&app, "sync", heads, metadata).await;
        assert_eq!(sync.status, 200, "{metadata}: {}", sync.body);
        assert_readable(&sync.body);
        assert_eq!((&sync.body["status"], &sync.body["exit_code"]), (&json!("completed"), &json!(0)));

        let accepted = send(&app, "async", heads, metadata).await;
        assert_eq!(accepted.status, 202, "the Go client takes no other");
        let path = format!("/api/v1/executions/{}", accepted.body["execution_id"].as_str().unwrap());
        assert_readable(&app.until(&path, "completed").await);
    }
    app.finish().await;
}

/// `tar -cf code.tar -C ./my-project .`, as its documentation says, names the folder itself.
#[tokio::test]
async fn archives_of_a_folder() {
    let app = TestApp::start().await;
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, content) in [
        ("./", tar::EntryType::Directory, &b""[..]),
        ("./main.py", tar::EntryType::Regular, b"import lib.a"),
        ("./lib/", tar::EntryType::Directory, b""),
        ("./lib/a.py", tar::EntryType::Regular, b"a = 1"),
    ] {
        let mut head = tar::Header::new_gnu();
        head.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        head.set_entry_type(kind);
        head.set_mode(0o755);
        head.set_size(content.len() as u64);
        head.set_cksum();
        archive.append(&head, content).unwrap();
    }
    let part = reqwest::multipart::Part::bytes(archive.into_inner().unwrap());
    let form =
        reqwest::multipart::Form::new().part("tar", part).text("metadata", r#"{"entrypoint":"main.py"}"#);
    let answer = app.post_form("/api/v1/exec/sync", form).await;
    let seen: Value = serde_json::from_str(answer.assert_ok()["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(seen["files"], json!({"main.py": 12, "lib/a.py": 5}));
    app.finish().await;
}

#[tokio::test]
async fn eval_of_both_clients() {
    let app = TestApp::start().await;
    for body in [
        json!({"eval_last_expr": true, "code": "2 + 2"}),
        json!({"eval_last_expr": false, "code": "x = 1", "stdin": "in", "config": {"timeout_seconds": 30}}),
        json!({"eval_last_expr": true, "files": [{"name": "main.py", "content": "1"}, {"name": "helper.py", "content": ""}],
            "entrypoint": "main.py", "python_version": "3.13"}),
        json!({"code": "x = 5\nx * 2", "eval_last_expr": true}),
        json!({"code": "print('Hello, World!')", "python_version": "3.13", "stdin": "input data",
            "config": {"timeout_seconds": 30}}),
    ] {
        let answer = app.post_json("/api/v1/eval", &body).await;
        assert_readable(answer.assert_ok());
    }
    // The Go client reads `error` of a 400 and knows 413; nothing else.
    let bad = app.post_json("/api/v1/eval", &json!({"code": "1", "python_version": "2.7"})).await;
    assert!(bad.status == 400 && bad.body["error"].is_string(), "{}", bad.body);
    let long = app.post_json("/api/v1/eval", &json!({"code": "#".repeat(101 << 10)})).await;
    assert_eq!(long.status, 413);
    app.finish().await;
}

#[tokio::test]
async fn kill_and_unknown_ids() {
    let app = TestApp::start().await;
    let path = app.submit("hang").await;
    app.until(&path, "running").await;
    assert_eq!(app.delete(&path).await.assert_ok(), &json!({"status": "killed"}));
    assert_readable(&app.get(&path).await.body);
    assert_eq!(app.get("/api/v1/executions/exe_00000000-0000-4000-8000-000000000000").await.status, 404);
    app.finish().await;
}

#[tokio::test]
async fn what_comes_later_says_so() {
    let app = TestApp::start().await;
    for (metadata, code) in [
        (r#"{"entrypoint": "main.py", "requirements_txt": "requests\nnumpy"}"#, "not_supported"),
        (r#"{"entrypoint": "main.py", "pre_commands": ["apt-get update"]}"#, "not_supported"),
        (r#"{"entrypoint": "main.py", "docker_image": "python:3.11-slim"}"#, "image_not_allowed"),
    ] {
        send(&app, "sync", PYTHON, metadata).await.assert_problem(400, code);
    }
    app.finish().await;
}
