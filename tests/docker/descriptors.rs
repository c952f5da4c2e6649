//! A server that runs out of open files: it refuses or makes callers wait, and is well again once there are some.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;

use crate::server::Server;

/// Descriptors that the server has left.
const LEFT: usize = 4;
/// Callers that want one each.
const CALLERS: usize = 60;

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// Sets the soft limit of a process that runs.
fn limit(server: &Server, files: &str) {
    let pid = server.pid().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
    assert!(status.unwrap().success());
}

async fn is_healthy(server: &Server) -> bool {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
    client.get(format!("{}/healthz", server.url)).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn without_descriptors_the_server_degrades_and_recovers() {
    let server = Server::start().await;
    let hello = json!({"language": "bash", "code": "echo hello"});
    assert_eq!(server.eval(&hello).await["stdout"], "hello\n");
    let before = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = before.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files = files.split_whitespace().nth(3).unwrap();

    limit(&server, &(open_files(&server) + LEFT).to_string());
    let address = server.url.strip_prefix("http://").unwrap();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(TcpStream::connect(address).await.unwrap());
    }
    let began = Instant::now();
    while is_healthy(&server).await {
        assert!(began.elapsed() < Duration::from_secs(20), "it never ran out of descriptors");
    }
    drop(callers);
    let began = Instant::now();
    while !is_healthy(&server).await {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not accept again");
    }

    limit(&server, files);
    let began = Instant::now();
    // The Engine may seem to be away while no socket can be made for it.
    while server.client.get(format!("{}/readyz", server.url)).send().await.unwrap().status() != 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "it is not ready again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.eval(&hello).await["stdout"], "hello\n");
    server.finish().await;
}
