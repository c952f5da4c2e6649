//! Connections that take a place and give nothing: idle ones, half a request, answers that nobody reads.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::test_app::{TestApp, fake};

/// What a caller's socket holds of an answer.
const SMALL_BUFFER: u32 = 4 << 10;

/// A connection that asks for this and has read nothing.
async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The value of a counter in `/metrics`, 0 where it is not there yet.
async fn metric(app: &TestApp, name: &str) -> u64 {
    // On a connection of its own: one that was kept may be closed just when it is used.
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let text = client.get(app.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

const SLOW_READER: &str = r#"execbox_connections_cut_total{reason="slow_reader"}"#;
const SLOW_HEAD: &str = r#"execbox_connections_cut_total{reason="slow_head"}"#;
const CROWDED: &str = r#"execbox_connections_cut_total{reason="crowded"}"#;

/// Waits until a counter says so.
async fn until(app: &TestApp, name: &str, value: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while metric(app, name).await < value {
        assert!(Instant::now() < deadline, "{name} is never {value}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is left to read; an end by force is an end.
async fn rest(stream: &mut TcpStream) -> usize {
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    drop(end.expect("the connection is still open"));
    answer.len()
}

/// Finished executions whose answers do not fit into any buffer: a result, one artifact, all artifacts.
async fn large_answers(app: &TestApp) -> [String; 3] {
    let (result, files) = (app.submit("flood").await, app.submit("large_artifact").await);
    for path in [&result, &files] {
        app.get(&format!("{path}?wait=10")).await.assert_ok();
    }
    [result, format!("{files}/artifacts/large"), format!("{files}/artifacts.tar")]
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let app = TestApp::with(|config| config.request.answer_idle_seconds = 1).await;
    let paths = large_answers(&app).await;
    for (index, path) in paths.iter().enumerate() {
        let mut stream = ask(app.address, path).await;
        until(&app, SLOW_READER, index as u64 + 1).await;
        let length = rest(&mut stream).await;
        assert!(length < 700_000, "{path}: {length} bytes came although nobody read");
    }
    // The answer was given up, not what it tells of.
    let whole = app.get(&paths[0]).await;
    assert_eq!(whole.assert_ok()["stdout"].as_str().unwrap().len(), 1 << 20);
    app.finish().await;
}

#[tokio::test]
async fn a_sync_caller_that_never_reads_changes_nothing() {
    let app = TestApp::with(|config| config.request.answer_idle_seconds = 1).await;
    let body = fake("flood").to_string();
    let mut stream = ask(app.address, "/health").await;
    let head = "POST /api/v1/exec/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    until(&app, SLOW_READER, 1).await;
    assert_eq!(app.sandbox.jobs(), 1);
    until(&app, r#"execbox_executions_finished_total{language="python",reason="output_limit"}"#, 1).await;
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_read_too_slowly_is_given_up() {
    let app = TestApp::with(|config| {
        config.request.answer_idle_seconds = 1;
        config.request.answer_min_rate = 1_000_000;
    })
    .await;
    for path in large_answers(&app).await {
        let before = metric(&app, SLOW_READER).await;
        let mut stream = ask(app.address, &path).await;
        let (began, mut piece, mut length) = (Instant::now(), [0; 2 << 10], 0);
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            length += count;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(began.elapsed() < Duration::from_secs(10), "{path}: {length} bytes, and nobody minds");
        }
        until(&app, SLOW_READER, before + 1).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn a_slow_answer_over_the_least_rate_arrives_whole() {
    let app = TestApp::with(|config| {
        config.request.answer_idle_seconds = 1;
        config.request.answer_min_rate = 1_024;
        config.request.keep_alive_seconds = 1;
    })
    .await;
    let [result, ..] = large_answers(&app).await;
    let mut stream = ask(app.address, &result).await;
    let (mut piece, mut answer) = (vec![0; 16 << 10], Vec::new());
    let began = Instant::now();
    loop {
        let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut piece)).await;
        let count = count.expect("it ends").unwrap();
        answer.extend_from_slice(&piece[..count]);
        if count == 0 || answer.ends_with(b"}\r\n0\r\n\r\n") || answer.ends_with(b"\"}") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(3), "it was not slow");
    assert!(answer.len() > 1 << 20, "{} bytes", answer.len());
    assert_eq!(metric(&app, SLOW_READER).await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_second_request_that_does_not_come_whole_is_not_waited_for() {
    let app = TestApp::with(|config| {
        config.request.head_seconds = 1;
        config.request.keep_alive_seconds = 2;
    })
    .await;
    // What comes after a first whole request: half of a head; the same at once with the first; nothing. The web
    // framework itself waits for the first of these for ever; with the others, it or we may be first.
    for (first, later) in [("", "GET /hea"), ("GET /hea", ""), ("", "")] {
        let mut stream = ask(app.address, "/health").await;
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut piece = [0; 4 << 10];
        assert!(stream.read(&mut piece).await.unwrap() > 0);
        stream.write_all(later.as_bytes()).await.unwrap();
        let began = Instant::now();
        rest(&mut stream).await;
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert!(metric(&app, SLOW_HEAD).await >= 1, "{first:?} {later:?}");
    }
    app.finish().await;
}

/// B14, small: whoever holds every place with idle connections keeps nobody out.
#[tokio::test]
async fn idle_connections_make_room_and_busy_ones_stay() {
    let app = TestApp::with(|config| config.request.connections = 64).await;
    let running = app.submit("hang").await;
    app.until(&running, "running").await;
    let mut busy = Vec::new();
    for _ in 0..8 {
        busy.push(ask(app.address, &format!("{running}?wait=60")).await);
    }
    // Until its request is read, a connection is an idle one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut idle = Vec::new();
    for round in 0..10 {
        for number in 0..50 {
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            if number % 2 == 0 {
                // It may have had to make room already.
                drop(stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await);
            }
            idle.push(stream);
        }
        let began = Instant::now();
        let fresh = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(fresh.get(app.url("/health")).send().await.unwrap().status(), 200);
        assert!(began.elapsed() < Duration::from_secs(2), "round {round}: {:?}", began.elapsed());
    }
    assert!(metric(&app, CROWDED).await > 400);
    assert!(metric(&app, "execbox_connections ").await <= 64);
    app.delete(&running).await.assert_ok();
    for mut stream in busy {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    drop(idle);
    app.finish().await;
}
