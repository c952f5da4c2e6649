//! Requests that a web page sends by its visitor's browser: nothing is changed for a page of another origin.

use reqwest::multipart::Form;
use serde_json::{Value, json};

use crate::test_app::{Answer, TestApp, fake, form};

/// What browsers say of a page elsewhere that posts to a server on the visitor's machine.
const FOREIGN: [&[(&str, &str)]; 4] = [
    &[("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")],
    // A page in a sandboxed frame, or a file.
    &[("origin", "null")],
    // Another port of the same host is another site's page.
    &[("origin", "http://127.0.0.1:1"), ("sec-fetch-site", "same-site")],
    &[("sec-fetch-site", "cross-site")],
];

async fn send(request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::read(request.send().await.unwrap()).await
}

fn executions(app: &TestApp) -> usize {
    let load = app.service.load();
    load.queued + load.running + load.kept
}

#[tokio::test]
async fn a_page_elsewhere_runs_nothing_on_a_server_without_keys() {
    let app = TestApp::start().await;
    for headers in FOREIGN {
        for path in ["/api/v1/exec/sync", "/api/v1/exec/async"] {
            let posted = app.client.post(app.url(path)).multipart(form(&json!({})));
            send(posted, headers).await.assert_problem(403, "cross_origin");
        }
        // Bodies that a form can send, and one that it can't.
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
            let posted = app.client.post(app.url("/api/v1/eval")).header("content-type", kind);
            send(posted.body(r#"{"code": "print(1)"}"#), headers).await.assert_problem(403, "cross_origin");
        }
        let anywhere = app.client.post(app.url("/api/v1/no/such/route"));
        send(anywhere, headers).await.assert_problem(403, "cross_origin");
    }
    assert_eq!(executions(&app), 0);
    app.finish().await;
}

#[tokio::test]
async fn a_page_elsewhere_kills_and_purges_nothing() {
    let app = TestApp::start().await;
    let path = app.submit("hang").await;
    for headers in FOREIGN {
        for query in ["", "?purge=true"] {
            let asked = app.client.delete(app.url(&format!("{path}{query}")));
            send(asked, headers).await.assert_problem(403, "cross_origin");
        }
    }
    let state = app.get(&path).await;
    assert!(matches!(state.assert_ok()["status"].as_str(), Some("pending" | "running")), "{}", state.body);
    app.delete(&path).await.assert_ok();
    app.finish().await;
}

#[tokio::test]
async fn own_pages_programs_and_readers_are_not_concerned() {
    let app = TestApp::with(|config| config.allowed_hosts = vec!["box.example".into()]).await;
    let own = format!("http://{}", app.address);
    let own_page = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    let behind_tls = [("host", "box.example"), ("origin", "https://box.example")];
    for headers in [&own_page[..], &behind_tls, &[("sec-fetch-site", "none")], &[]] {
        let run = app.client.post(app.url("/api/v1/exec/sync")).json(&fake("exit 3"));
        assert_eq!(send(run, headers).await.assert_ok()["exit_code"], 3, "{headers:?}");
    }
    for headers in FOREIGN {
        send(app.client.get(app.url("/health")), headers).await.assert_ok();
        let read: Value = send(app.client.get(app.url("/api/v1/runtimes")), headers).await.body;
        assert!(read["runtimes"].is_array(), "{read}");
    }
    app.finish().await;
}

/// The origin is looked at before the key, and before a byte of the body.
#[tokio::test]
async fn a_key_makes_no_difference_and_no_body_is_read() {
    let app = TestApp::start().await;
    let part = reqwest::multipart::Part::bytes(vec![b'x'; 1 << 20]);
    let posted = app.client.post(app.url("/api/v1/exec/sync")).header("x-api-key", "exb_wrong");
    let answer = send(posted.multipart(Form::new().part("tar", part)), FOREIGN[0]).await;
    answer.assert_problem(403, "cross_origin");
    app.finish().await;
}
