//! The same key with the same request is one execution, however often it is sent.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::test_app::{Answer, TestApp, fake, hello_tar};

async fn post(app: &TestApp, route: &str, key: &str, body: &Value) -> Answer {
    let request = app.client.post(app.url(route)).header("Idempotency-Key", key).json(body);
    Answer::read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn fifty_at_once_are_one_execution() {
    let app = TestApp::start().await;
    let body = fake("exit 0");
    let answers = join_all((0..50).map(|_| post(&app, "/api/v1/exec/async", "k-1", &body))).await;
    let ids: HashSet<_> = answers.iter().map(|answer| answer.body["execution_id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let sync = post(&app, "/api/v1/exec/sync", "k-1", &body).await;
    assert!(ids.contains(&sync.assert_ok()["execution_id"].to_string()), "sync and async share the key");
    let fresh = post(&app, "/api/v1/exec/async", "k-2", &body).await;
    assert!(!ids.contains(&fresh.body["execution_id"].to_string()));
    app.get(&format!("/api/v1/executions/{}?wait=10", fresh.body["execution_id"].as_str().unwrap())).await;
    app.finish().await;
}

#[tokio::test]
async fn another_request_under_the_key_is_refused_whatever_differs() {
    let app = TestApp::start().await;
    let body = fake("exit 0");
    post(&app, "/api/v1/eval", "k", &body).await.assert_ok();
    for (field, value) in [
        ("code", json!("exit 3")),
        ("stdin", json!("x")),
        ("script_args", json!(["x"])),
        ("env_vars", json!({"K": "V"})),
        ("labels", json!({"k": "v"})),
        ("config", json!({"timeout_seconds": 7})),
        ("artifacts", json!(["*.png"])),
        ("parameters", json!({"x": 1})),
        ("input_data", json!([1])),
        ("script", json!(true)),
        ("call", json!("main")),
        ("capture_plots", json!(true)),
        ("lint", json!(true)),
    ] {
        let mut other = body.clone();
        other[field] = value;
        post(&app, "/api/v1/eval", "k", &other).await.assert_problem(422, "idempotency_key_reused");
    }
    post(&app, "/api/v1/eval", "k", &body).await.assert_ok();
    // Although each execution is told its own id.
    let mut data = fake("exit 0");
    data["parameters"] = json!({"x": 1});
    let first = post(&app, "/api/v1/eval", "data", &data).await;
    let second = post(&app, "/api/v1/eval", "data", &data).await;
    assert_eq!(first.assert_ok()["execution_id"], second.assert_ok()["execution_id"]);
    app.finish().await;
}

#[tokio::test]
async fn an_archive_is_told_by_what_is_in_it() {
    let app = TestApp::start().await;
    let send = async |tar: Vec<u8>| {
        let form = Form::new().part("tar", Part::bytes(tar)).text("metadata", "{}");
        let request = app.client.post(app.url("/api/v1/exec/sync")).header("Idempotency-Key", "tar");
        Answer::read(request.multipart(form).send().await.unwrap()).await
    };
    let first = send(hello_tar()).await.assert_ok()["execution_id"].clone();
    assert_eq!(send(hello_tar()).await.assert_ok()["execution_id"], first);
    let other = crate::test_app::tar_of(&[("main.py", b"print(2)")]);
    send(other).await.assert_problem(422, "idempotency_key_reused");
    app.finish().await;
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let app = TestApp::start().await;
    let long = "k".repeat(256);
    for key in ["", "two words", &long] {
        post(&app, "/api/v1/eval", key, &fake("exit 0")).await.assert_problem(400, "bad_idempotency_key");
    }
    app.finish().await;
}
