//! A server that dies, is shut down, or can't write: what was acknowledged ends once, with its own result.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::server::{EXECBOX, Server};
use crate::{engine, figures};

/// A program that takes a moment, and whose output tells it from the others.
fn numbered(number: usize) -> String {
    format!("sleep 0.3; echo number {number}; echo {number} > out.txt")
}

async fn assert_numbered(server: &Server, id: &str, number: usize) {
    let result = server.wait(id).await;
    assert_eq!((&result["status"], &result["exit_code"]), (&json!("completed"), &json!(0)), "{result:#}");
    assert_eq!(result["stdout"], format!("number {number}\n"), "{result:#}");
    let file = server.client.get(format!("{}/api/v1/executions/{id}/artifacts/out.txt", server.url));
    assert_eq!(file.send().await.unwrap().text().await.unwrap(), format!("{number}\n"));
}

#[tokio::test]
async fn killed_in_the_middle_of_twenty_every_one_completes_after_the_restart() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(server.submit_code("bash", &numbered(number)).await);
    }
    assert_numbered(&server, &ids[2], 2).await;
    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    for (number, id) in ids.iter().enumerate() {
        assert_numbered(&server, id, number).await;
    }
    let before = server.get(&ids[19]).await;
    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    assert_eq!(server.get(&ids[19]).await, before, "a result does not change");
    assert_numbered(&server, &ids[0], 0).await;
    server.finish().await;
}

/// Case H02: at five moments of a start, one start after the other, before anybody could use the server.
#[tokio::test]
async fn killed_again_and_again_while_it_starts_it_loses_nothing() {
    let flags = ["--workers", "2"];
    let began = Instant::now();
    let server = Server::start_with(&flags).await;
    let start = began.elapsed();
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(server.submit_code("bash", &numbered(number)).await);
    }
    assert_numbered(&server, &ids[1], 1).await;
    let finished = server.get(&ids[1]).await;
    let data = server.crash().await;
    for fifth in 0..5 {
        let mut serve = tokio::process::Command::new(EXECBOX);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path()).args(flags);
        let mut serve = serve.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        tokio::time::sleep(start * fifth / 5).await;
        assert!(serve.try_wait().unwrap().is_none(), "it ended by itself");
        serve.kill().await.unwrap();
    }
    let server = Server::start_on(data, &flags).await;
    for (number, id) in ids.iter().enumerate() {
        assert_numbered(&server, id, number).await;
    }
    assert_eq!(server.get(&ids[1]).await, finished, "a result does not change");
    server.finish().await;
}

#[tokio::test]
async fn a_large_project_with_its_input_survives_too() {
    let server = Server::start_with(&["--workers", "1"]).await;
    let blocker = server.submit_code("bash", "sleep 30").await;
    let large = "0123456789abcdef".repeat(20_000);
    let files = json!([
        {"name": "main.sh", "content": "cat; sha256sum < large.txt"},
        {"name": "large.txt", "content": large},
    ]);
    let body = json!({"language": "bash", "files": files, "stdin": "the input\n"});
    let url = format!("{}/api/v1/exec/async", server.url);
    let answer: Value = server.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    let id = answer["execution_id"].as_str().unwrap().to_owned();
    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    server.kill(&blocker).await;
    let result = server.wait(&id).await;
    let hash = execbox::store::ContentHash::of(large.as_bytes());
    assert_eq!(result["stdout"], format!("the input\n{hash}  -\n"), "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn a_shutdown_leaves_what_nobody_waits_for_to_the_next_server() {
    let mut server = Server::start_with(&["--workers", "1", "--drain-seconds", "1"]).await;
    let running = server.submit_code("bash", "echo up; sleep 4; echo done").await;
    server.wrote(&running, "up").await;
    let queued = server.submit_code("bash", &numbered(7)).await;
    let label = server.label();
    server.signal(Signal::SIGTERM);
    assert!(server.ended(Duration::from_secs(10)).await.success());
    engine::assert_gone(&label).await;
    let data = std::mem::replace(&mut server.data, tempfile::tempdir().unwrap());
    let server = Server::start_on(data, &[]).await;
    let result = server.wait(&running).await;
    assert_eq!((&result["stdout"], &result["attempt"]), (&json!("up\ndone\n"), &json!(1)), "{result:#}");
    assert_numbered(&server, &queued, 7).await;
    server.finish().await;
}

#[tokio::test]
async fn an_execution_that_takes_the_server_down_each_time_is_given_up_and_others_go_on() {
    let mut server = Server::start_with(&["--workers", "1"]).await;
    let poison = server.submit_code("bash", "echo up; sleep 60").await;
    let other = server.submit_code("bash", &numbered(1)).await;
    for _ in 0..3 {
        server.wrote(&poison, "up").await;
        let data = server.crash().await;
        server = Server::start_on(data, &["--workers", "1"]).await;
    }
    let result = server.wait(&poison).await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("internal")), "{result:#}");
    assert_eq!(result["attempt"], 3, "{result:#}");
    assert!(result["error"].as_str().unwrap().contains("3 attempts"), "{result:#}");
    assert_numbered(&server, &other, 1).await;
    server.finish().await;
}

/// The id of the one execution that runs, by the database: nobody was told it.
fn running_id(data: &std::path::Path) -> String {
    let database = rusqlite::Connection::open(data.join("execbox.db")).unwrap();
    let read = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    let id = database.query_row("SELECT id FROM executions WHERE state = 1", [], read).unwrap();
    format!("exe_{}", uuid::Uuid::from_slice(&id).unwrap())
}

#[tokio::test]
async fn one_whose_caller_is_gone_is_killed_with_a_notice_and_its_key_is_free_again() {
    let server = Server::start().await;
    let body = json!({"language": "bash", "code": "echo up; sleep 5"});
    let post = |server: &Server| {
        let url = format!("{}/api/v1/exec/sync", server.url);
        server.client.post(url).header("idempotency-key", "one").json(&body).send()
    };
    // The probe's container has the same label, and may still be on its way out.
    engine::assert_gone(&server.label()).await;
    let waiting = tokio::spawn(post(&server));
    engine::running(&server.label()).await;
    let data = server.crash().await;
    let id = running_id(data.path());
    assert!(waiting.await.unwrap().is_err(), "the caller got no answer");
    let server = Server::start_on(data, &[]).await;
    let result = server.get(&id).await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("killed"), &json!("killed")), "{result:#}");
    assert!(result["notices"][0].as_str().unwrap().contains("nobody waits"), "{result:#}");
    let again: Value = post(&server).await.unwrap().json().await.unwrap();
    assert_eq!((&again["status"], &again["stdout"]), (&json!("completed"), &json!("up\n")), "{again:#}");
    assert_ne!(again["execution_id"], id);
    server.finish().await;
}

/// Figure P10: 2 s from the start to ready; a shared machine that does other things meanwhile gets some room.
#[tokio::test]
async fn a_thousand_queued_and_twenty_orphans_delay_the_start_little() {
    let flags =
        ["--workers", "20", "--warm-max", "0", "--queue-length", "2000", "--tenant-queue-length", "2000"];
    let server = Server::start_with(&flags).await;
    let mut ids = Vec::new();
    for number in 0..1_020 {
        ids.push(server.submit_code("bash", &format!("[ -e never ] || sleep 100; echo {number}")).await);
    }
    let label = server.label();
    let began = Instant::now();
    while engine::containers(&label).await.len() < 20 {
        assert!(began.elapsed() < Duration::from_secs(60), "20 must run");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let data = server.crash().await;
    let began = Instant::now();
    let server = Server::start_on(data, &["--workers", "1"]).await;
    let url = format!("{}/readyz", server.url);
    assert_eq!(server.client.get(url).send().await.unwrap().status(), 200);
    let took = began.elapsed();
    let bound = Duration::from_secs(if figures::full() { 2 } else { 8 });
    println!("P10  {took:.2?} from the start to ready, with 1,000 queued and 20 orphans (≤ {bound:?})");
    assert!(took < bound, "{took:?}");
    let health: Value =
        server.client.get(format!("{}/health", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["queued"].as_u64().unwrap() + health["running"].as_u64().unwrap(), 1_020);
    for id in &ids {
        assert_eq!(server.kill(id).await["status"], "killed");
    }
    server.finish().await;
}
