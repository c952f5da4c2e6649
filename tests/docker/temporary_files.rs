//! /tmp: as large as the workspace, and no larger together with it.

use serde_json::{Value, json};

use crate::server::Server;

async fn run(server: &Server, language: &str, code: &str) -> Value {
    let config = json!({"disk_mb": 64, "memory_mb": 128, "timeout_seconds": 60});
    server.eval(&json!({"language": language, "code": code, "config": config})).await
}

fn found(result: &Value) -> (&str, i64) {
    (result["reason"].as_str().unwrap(), result["exit_code"].as_i64().unwrap_or(-1))
}

fn assert_named(result: &Value, folder: &str) {
    let error = result["error"].as_str().unwrap();
    assert!(error.contains(folder) && error.contains("config.disk_mb"), "{folder}: {result:#}");
}

#[tokio::test]
async fn tmp_has_the_size_that_is_asked_for_and_nothing_in_it_comes_back() {
    let server = Server::start().await;
    let code = "set -e; head -c 50M /dev/zero > /tmp/f; mkdir /tmp/d; cd /tmp/d; touch $(seq 4000); ls | wc -l\n\
                cp /bin/true /tmp/true; /tmp/true 2> /dev/null || echo \"no program\"";
    for _ in 0..2 {
        let result = run(&server, "bash", code).await;
        assert_eq!(
            (&result["stdout"], found(&result)),
            (&json!("4000\nno program\n"), ("exited", 0)),
            "{result:#}"
        );
        assert!(result["artifacts"].as_array().is_none_or(Vec::is_empty), "{result:#}");
    }
    // The next execution has a size of its own.
    let small = json!({"language": "bash", "code": "df -m --output=size,itotal /tmp | tail -1",
                       "config": {"disk_mb": 8}});
    let result = server.eval(&small).await;
    assert_eq!(result["stdout"].as_str().unwrap().split_whitespace().collect::<Vec<_>>(), ["8", "65536"]);
    server.finish().await;
}

#[tokio::test]
async fn the_workspace_and_tmp_add_up_and_the_larger_is_named() {
    let server = Server::start_with(&["--disk-inodes", "2000"]).await;
    let forever = "; while :; do sleep 1; done";
    for (tmp, work, folder) in [
        ("head -c 45M /dev/zero > /tmp/f", "head -c 30M /dev/zero > f", "most of it is in /tmp"),
        ("head -c 30M /dev/zero > /tmp/f", "head -c 45M /dev/zero > f", "most of it is in the workspace"),
        ("cd /tmp; touch $(seq 1500)", "cd /work; touch $(seq 1000)", "most of it is in /tmp"),
    ] {
        let result = run(&server, "bash", &format!("{tmp}; {work}{forever}")).await;
        assert_eq!(found(&result), ("disk_limit", 137), "{tmp}: {result:#}");
        assert_named(&result, folder);
        assert!(result["timings"]["run_ms"].as_f64().unwrap() < 10_000.0, "{result:#}");
        // It may be over before anybody looks.
        let result = run(&server, "bash", &format!("{tmp}; {work}")).await;
        assert_eq!(result["reason"], "disk_limit", "{tmp}: {result:#}");
        assert_named(&result, folder);
    }
    server.finish().await;
}

#[tokio::test]
async fn a_full_tmp_is_told_to_a_program_that_fails_of_it_and_only_to_that() {
    let server = Server::start().await;
    let full = "head -c 100M /dev/zero > /tmp/f 2> /dev/null";
    let result = run(&server, "bash", &format!("{full}; exit 4")).await;
    assert_eq!(found(&result), ("disk_limit", 4), "{result:#}");
    assert_named(&result, "/tmp of 64 MiB");
    let result = run(&server, "bash", &format!("{full}; sleep 0.3; exit 0")).await;
    assert_eq!(found(&result), ("exited", 0), "{result:#}");
    // As a library does that cleans up behind itself.
    let result = run(&server, "bash", &format!("{full}; sleep 0.3; rm /tmp/f; exit 1")).await;
    assert_eq!(found(&result), ("disk_limit", 1), "{result:#}");
    assert_named(&result, "/tmp of 64 MiB");
    let code = "with open('/dev/shm/f', 'wb') as file:\n    file.write(bytes(70 << 20))\n";
    let result = run(&server, "python", code).await;
    assert_eq!(found(&result), ("disk_limit", 1), "{result:#}");
    assert!(result["error"].as_str().unwrap().contains("/dev/shm"), "{result:#}");
    server.finish().await;
}

/// Both folders are filled faster than anybody looks, by a program that takes its memory, too.
#[tokio::test]
async fn files_past_their_limit_are_not_told_as_memory() {
    const PROGRAM: &str = "
import os, time
held = bytearray(60 << 20)
held[::4096] = b'x' * len(held[::4096])
piece = bytes(1 << 20)
names = ['/tmp/f', '/work/f']
if os.fork() == 0:
    names.reverse()
with open(names[0], 'wb', 0) as file:
    for _ in range(250):
        file.write(piece)
time.sleep(30)
";
    let server = Server::start().await;
    let config = json!({"disk_mb": 256, "memory_mb": 96, "timeout_seconds": 60});
    for _ in 0..3 {
        let result = server.eval(&json!({"language": "python", "code": PROGRAM, "config": config})).await;
        assert_eq!((found(&result), &result["attempt"]), (("disk_limit", 137), &json!(1)), "{result:#}");
    }
    server.finish().await;
}

/// What is on the Engine's disk, and what /tmp takes of memory, add up as well.
#[tokio::test]
async fn tmp_beside_a_workspace_on_disk_takes_no_more_of_memory_than_a_workspace_may() {
    let server = Server::start_with(&["--memory-disk-mb", "32"]).await;
    let result = run(&server, "bash", "df -m --output=size /tmp | tail -1 | tr -d ' '").await;
    assert_eq!(result["stdout"], "32\n", "{result:#}");
    let result = run(&server, "bash", "head -c 40M /dev/zero > /tmp/f; exit 4").await;
    assert_eq!(found(&result), ("disk_limit", 4), "{result:#}");
    assert!(result["error"].as_str().unwrap().contains("/tmp of 32 MiB"), "{result:#}");
    let code = "head -c 20M /dev/zero > /tmp/f; head -c 55M /dev/zero > f; while :; do sleep 1; done";
    let result = run(&server, "bash", code).await;
    assert_eq!(found(&result), ("disk_limit", 137), "{result:#}");
    assert_named(&result, "most of it is in the workspace");
    server.finish().await;
}
