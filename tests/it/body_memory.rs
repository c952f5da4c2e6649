//! The budget of memory for requests: held by floods of every kind, shared by tenants, and given back whole. Nothing here
//! is timed; `make load` measures what the process occupies.

use std::time::{Duration, Instant};

use execbox::store::{KeySpec, Scope};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::keys::{User, spec};
use crate::test_app::{Answer, TestApp, fake, hello_tar, tar_of};

/// The budget of these tests, in MiB.
const BUDGET_MB: u64 = 1;
/// What may be on its way: half of it.
const INCOMING: u64 = BUDGET_MB << 19;
const METADATA: &str = "--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n";
const TAR: &str = "--x\r\nContent-Disposition: form-data; name=\"tar\"\r\n\r\n";

/// A request of which this much was sent, and no more comes.
async fn unfinished(app: &TestApp, key: Option<&str>, kind: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /api/v1/exec/async HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// A number out of `/metrics`.
async fn metric(app: &TestApp, key: Option<&str>, name: &str) -> u64 {
    let request = app.client.get(app.url("/metrics"));
    let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
    let text = request.send().await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

async fn held(app: &TestApp) -> u64 {
    metric(app, None, "execbox_body_memory_bytes").await
}

/// Waits until so many bytes of bodies were read, looking at the budget all the while.
async fn until_read(app: &TestApp, bytes: u64) -> u64 {
    let (deadline, mut most) = (Instant::now() + Duration::from_secs(30), 0);
    loop {
        most = most.max(held(app).await);
        let read = metric(app, None, "execbox_upload_bytes_total").await;
        if read >= bytes {
            return most;
        }
        assert!(Instant::now() < deadline, "{read} of {bytes} bytes were read");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_nothing_is_held(app: &TestApp) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while held(app).await > 0 {
        assert!(Instant::now() < deadline, "{} bytes never came back", held(app).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Files of this server that have no name any more and are still open.
fn nameless(app: &TestApp) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let spool = app.data().join("spool");
    links.filter(|link| link.starts_with(&spool) && link.to_string_lossy().ends_with(" (deleted)")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_on_their_way_hold_no_more_than_the_budget_and_leave_nothing() {
    let app = TestApp::with(|config| config.request.body_memory_mb = BUDGET_MB).await;
    let (json, multipart) = ("application/json", "multipart/form-data; boundary=x");
    let text = |length: usize| [b"{\"code\":\"".to_vec(), vec![b'x'; length]].concat();
    let archive = tar_of(&[("main.py", b"1"), ("data", &vec![7; 300 << 10])]);
    let part = [TAR.as_bytes(), &archive[..250 << 10]].concat();
    let mut open = vec![unfinished(&app, None, multipart, 8 << 20, &part).await];
    let mut sent = part.len() as u64 - 100;
    for _ in 0..20 {
        for (kind, length, body) in [
            (json, 8 << 20, text(500 << 10)),
            (json, 60_000, text(59_000)),
            (json, 60_000, text(14_000)),
            (json, 60_000, text(1_000)),
            (multipart, 8 << 20, [METADATA.as_bytes(), &text(300 << 10)].concat()),
            (multipart, 60_000, [METADATA.as_bytes(), &text(14_000)].concat()),
        ] {
            open.push(unfinished(&app, None, kind, length, &body).await);
            // The multipart reader keeps back what may be the beginning of a boundary.
            sent += body.len() as u64 - 100;
        }
    }
    let most = until_read(&app, sent).await;
    assert!((1..=BUDGET_MB << 20).contains(&most), "{most} bytes");
    // What a piece of an archive could have needed while it was written comes back, although its caller sends no more.
    let deadline = Instant::now() + Duration::from_secs(10);
    while held(&app).await > INCOMING {
        assert!(Instant::now() < deadline, "{} bytes are on their way", held(&app).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(nameless(&app) >= 60, "only {} texts are in files", nameless(&app));
    // Whoever sends what is complete is served.
    assert_eq!(app.run("exit 0").await["status"], "completed");
    let form = Form::new().part("tar", Part::bytes(hello_tar())).text("metadata", "{}");
    app.post_form("/api/v1/exec/sync", form).await.assert_ok();
    drop(open);
    until_nothing_is_held(&app).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while nameless(&app) > 0 {
        assert!(Instant::now() < deadline, "{} files are still open", nameless(&app));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn complete_bodies_give_their_memory_back_whatever_becomes_of_them() {
    let app = TestApp::with(|config| config.request.body_memory_mb = BUDGET_MB).await;
    let sync = "/api/v1/exec/sync";
    let long = "x".repeat(300_000);
    for (body, status) in [
        (json!({"code": "print(1)", "stdin": long}), 200),
        (json!({"files": {"main.py": "print(1)", "data.txt": long}}), 200),
        (json!({"code": "1", "parameters": {"long": long}}), 200),
        (json!({"code": "1", "nonsense": long}), 400),
        (json!({"code": "1", "script_args": vec![""; 100_000]}), 400),
        (json!({"stdin": long}), 400),
    ] {
        let answer = app.post_json(sync, &body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(held(&app).await, 0);
    }
    for metadata in [json!({"stdin": long}), json!({"stdin": long, "nonsense": 1})] {
        let form = Form::new().part("tar", Part::bytes(hello_tar())).text("metadata", metadata.to_string());
        let answer = app.post_form(sync, form).await;
        assert_eq!(answer.status == 200, metadata.get("nonsense").is_none(), "{}", answer.body);
        assert_eq!(held(&app).await, 0);
    }
    app.finish().await;
}

#[tokio::test]
async fn long_input_waits_in_a_file_and_arrives_whole() {
    let app = TestApp::start().await;
    let long: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
    let body = json!({"code": "print(1)", "stdin": long});
    let sync = app.post_json("/api/v1/exec/sync", &body).await;
    let accepted = app.post_json("/api/v1/exec/async", &body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let path = format!("/api/v1/executions/{}?wait=10", accepted.body["execution_id"].as_str().unwrap());
    for result in [sync.assert_ok(), app.get(&path).await.assert_ok()] {
        let seen: Value = serde_json::from_str(result["stdout"].as_str().unwrap()).unwrap();
        assert!(seen["stdin"] == *long, "it came otherwise");
    }
    app.finish().await;
}

#[tokio::test]
async fn executions_that_wait_take_a_quarter_of_the_memory_and_no_more() {
    let app = TestApp::with(|config| config.request.body_memory_mb = BUDGET_MB).await;
    let mut body = fake("hang");
    body["script_args"] = json!(["x".repeat(60_000)]);
    let mut waiting = Vec::new();
    let refused = loop {
        let answer = app.post_json("/api/v1/exec/async", &body).await;
        if answer.status != 202 {
            break answer;
        }
        waiting.push(format!("/api/v1/executions/{}", answer.body["execution_id"].as_str().unwrap()));
    };
    assert_eq!(waiting.len(), 4);
    assert!(refused.assert_problem(429, "queue_full").contains("memory"), "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(held(&app).await <= BUDGET_MB << 18);
    // What is small still finds a place.
    let small = app.submit("hang").await;
    app.delete(&small).await.assert_ok();
    for path in &waiting {
        app.delete(path).await.assert_ok();
    }
    until_nothing_is_held(&app).await;
    assert_eq!(app.run("exit 0").await["status"], "completed");
    app.finish().await;
}

/// 64 slow uploads of one tenant shut out everybody else.
#[tokio::test]
async fn slow_uploads_of_one_tenant_leave_places_to_the_others() {
    let app = TestApp::with(|config| config.request.uploads = 8).await;
    let (flood, other) = (User::new(&app, &spec("flood")), User::new(&app, &spec("other")));
    let admin = User::new(&app, &KeySpec { scopes: vec![Scope::Admin], ..spec("admin") });
    // Keys are counted once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    other.get("/api/v1/runtimes").await.assert_ok();
    let sent = [TAR.as_bytes(), &hello_tar()[..600]].concat();
    let mut slow = Vec::new();
    for _ in 0..12 {
        let kind = "multipart/form-data; boundary=x";
        slow.push(unfinished(&app, Some(&flood.key), kind, 1 << 20, &sent).await);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while metric(&app, Some(&admin.key), "execbox_upload_bytes_total").await < 6 * 500 {
        assert!(Instant::now() < deadline, "the slow uploads were never read");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let upload = async |user: &User<'_>| {
        let tar = tar_of(&[("main.py", b"1"), ("large", &vec![0; 100_000])]);
        let form = Form::new().part("tar", Part::bytes(tar));
        let request = app.client.post(app.url("/api/v1/exec/sync")).bearer_auth(&user.key).multipart(form);
        Answer::read(request.send().await.unwrap()).await
    };
    upload(&flood).await.assert_problem(429, "too_many_uploads");
    for _ in 0..3 {
        upload(&other).await.assert_ok();
    }
    drop(slow);
    app.finish().await;
}
