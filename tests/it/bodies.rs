//! Bodies that lie, stall or drip, and requests that no client library would send.

use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::test_app::{TestApp, fake, hello_tar, tar_of};

/// Sends these bytes and reads until the server closes; gives up after a while.
pub(crate) async fn raw(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn lying_requests_are_refused_and_the_server_lives() {
    let app = TestApp::start().await;
    let json = "Content-Type: application/json\r\n";
    for (headers, body, wanted) in [
        (format!("{json}Content-Length: 10737418240\r\n"), "{}", "413"),
        (format!("{json}Content-Length: 2\r\nContent-Length: 3\r\n"), "{}", "400"),
        (format!("{json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), "0\r\n\r\n", "400"),
        (format!("{json}Content-Length: -1\r\n"), "{}", "400"),
        (format!("{json}Content-Length: two\r\n"), "{}", "400"),
        (format!("{json}Transfer-Encoding: chunked\r\n"), "zz\r\n{}\r\n0\r\n\r\n", "400"),
        (format!("{json}Transfer-Encoding: gzip\r\n"), "{}", "400"),
        ("Content-Type: \u{1}\r\n".to_owned(), "", "400"),
    ] {
        let answer = raw(&app, &post("/api/v1/eval", &headers, body)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "{headers:?} got {answer:?}");
    }
    let multipart = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10737418240\r\n";
    let answer = raw(&app, &post("/api/v1/exec/sync", multipart, "")).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains(r#""code":"body_too_large""#), "{answer}");
    app.get("/health").await.assert_ok();
    app.finish().await;
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_no_request() {
    let app = TestApp::start().await;
    let body = json!({"code": "print(1)"}).to_string();
    let request = post("/api/v1/eval", "Content-Type: application/json\r\nContent-Length: 500\r\n", &body);
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(app.sandbox.jobs(), 0);
    app.finish().await;
}

#[tokio::test]
async fn deep_json_is_refused() {
    let app = TestApp::start().await;
    for body in ["[".repeat(200_000), format!(r#"{{"input_data": {}"#, "[".repeat(200_000))] {
        let request = app.client.post(app.url("/api/v1/eval")).header("content-type", "application/json");
        let answer = crate::test_app::Answer::read(request.body(body).send().await.unwrap()).await;
        answer.assert_problem(400, "bad_json");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_head_that_drips_is_closed() {
    let app = TestApp::with(|config| config.request.head_seconds = 1).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let began = Instant::now();
    for byte in b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: aaaaaaaaaa".chunks(1) {
        if stream.write_all(byte).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        if began.elapsed() > Duration::from_millis(2_500) {
            break;
        }
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    app.finish().await;
}

#[tokio::test]
async fn a_body_that_stalls_or_drips_is_given_up() {
    let app = TestApp::with(|config| {
        config.request.body_idle_seconds = 1;
        config.request.body_min_rate = 1_000;
    })
    .await;
    let json = "Content-Type: application/json\r\nContent-Length: 5000\r\n";
    let multipart = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5000\r\n";
    let part = "--x\r\nContent-Disposition: form-data; name=\"tar\"\r\n\r\n";
    for (path, headers, start, drip) in [
        ("/api/v1/eval", json, "", false),
        ("/api/v1/eval", json, "{", true),
        ("/api/v1/exec/sync", multipart, "", false),
        ("/api/v1/exec/sync", multipart, part, true),
    ] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(post(path, headers, start).as_bytes()).await.unwrap();
        let began = Instant::now();
        // Dripping goes on until there is an answer, so that the server never waits long for a byte.
        while drip && tokio::time::timeout(Duration::from_millis(200), stream.readable()).await.is_err() {
            stream.write_all(b" ").await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(5), "nobody minds the drip");
        }
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path} {drip}: {answer:?}");
        assert!(answer.contains(r#""code":"slow_body""#), "{answer}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    app.finish().await;
}

/// A caller that was fast at first gets no credit for a stall later.
#[tokio::test]
async fn a_body_that_drips_after_a_fast_start_is_given_up() {
    let app = TestApp::with(|config| {
        config.request.body_idle_seconds = 1;
        config.request.body_min_rate = 1_000;
    })
    .await;
    let headers = "Content-Type: application/json\r\nContent-Length: 5000000\r\n";
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let fast = format!("{{\"code\": \"{}", "a".repeat(2_000_000));
    stream.write_all(post("/api/v1/exec/sync", headers, &fast).as_bytes()).await.unwrap();
    let began = Instant::now();
    while tokio::time::timeout(Duration::from_millis(200), stream.readable()).await.is_err() {
        stream.write_all(b" ").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(8), "the fast start is still paid back");
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    app.finish().await;
}

#[tokio::test]
async fn uploads_are_bounded() {
    let app = TestApp::with(|config| config.request.uploads = 1).await;
    let head = post(
        "/api/v1/exec/sync",
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 90000\r\n",
        "",
    );
    let big = || Form::new().part("tar", Part::bytes(tar_of(&[("main.py", &vec![b'#'; 100 << 10])])));
    let mut slow = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
        // Until the server has read the head; it says nothing that could be waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = app.post_form("/api/v1/exec/sync", big()).await;
        if answer.status == 429 {
            answer.assert_problem(429, "too_many_uploads");
            assert!(answer.headers.contains_key("retry-after"));
            break;
        }
        assert!(Instant::now() < deadline, "the slow upload never counted");
    }
    // Small bodies need no permit.
    app.run("exit 0").await;
    drop(slow);
    let deadline = Instant::now() + Duration::from_secs(5);
    while app.post_form("/api/v1/exec/sync", big()).await.status != 200 {
        assert!(Instant::now() < deadline, "the permit of a broken upload never came back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn other_hosts_are_refused() {
    let app = TestApp::with(|config| config.allowed_hosts = vec!["box.example".into()]).await;
    for (head, wanted) in [
        ("GET /health HTTP/1.1\r\nHost: localhost:1\r\n", "200"),
        ("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n", "200"),
        ("GET /health HTTP/1.1\r\nHost: BOX.example:8080\r\n", "200"),
        ("GET /health HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        ("GET /health HTTP/1.1\r\nHost: localhost.evil.example\r\n", "421"),
        ("GET /health HTTP/1.1\r\nHost: 169.254.169.254\r\n", "421"),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", "400"),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n", "200"),
        ("GET /health HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n", "421"),
        ("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n", "421"),
        ("GET /health HTTP/1.0\r\n", "421"),
    ] {
        let answer = raw(&app, &format!("{head}Connection: close\r\n\r\n")).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(status, wanted, "{head:?} got {answer:?}");
        if wanted == "421" {
            assert!(answer.contains(r#""code":"bad_host""#), "{answer}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_refusal_reaches_a_caller_that_is_still_sending() {
    let app = TestApp::start().await;
    let body = vec![b'x'; 20 << 20];
    let form = Form::new().part("tar", Part::bytes(body));
    app.post_form("/api/v1/exec/sync", form).await.assert_problem(400, "bad_archive");
    app.finish().await;
}

#[tokio::test]
async fn archives_larger_than_any_buffer_arrive_whole() {
    let app = TestApp::start().await;
    let content: Vec<u8> = (0..5_000_001_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let form = Form::new().part("tar", Part::bytes(tar_of(&[("main.py", b"1"), ("data.bin", &content)])));
    let answer = app.post_form("/api/v1/exec/sync", form).await;
    let seen: serde_json::Value =
        serde_json::from_str(answer.assert_ok()["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(seen["files"]["data.bin"], content.len());
    app.finish().await;
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing() {
    let app = TestApp::start().await;
    let mut body = b"--x\r\nContent-Disposition: form-data; name=\"tar\"\r\n\r\n".to_vec();
    body.extend(hello_tar());
    let head = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n";
    for cut in [0, 10, 60, 600, body.len()] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(post("/api/v1/exec/async", head, "").as_bytes()).await.unwrap();
        stream.write_all(&body[..cut]).await.unwrap();
        drop(stream);
    }
    assert_eq!(app.post_json("/api/v1/exec/sync", &fake("exit 0")).await.status, 200);
    assert_eq!(app.sandbox.jobs(), 1);
    app.finish().await;
}
