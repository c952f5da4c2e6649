//! Workspaces on the Engine's disk: as those in memory, but that the runner holds their limits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine;
use crate::projects::tar_of;
use crate::server::Server;

/// Every workspace of these tests is larger than this, and so on disk.
const ON_DISK: [&str; 2] = ["--memory-disk-mb", "16"];
const MIB: u64 = 1 << 20;

async fn server(more: &[&str]) -> Server {
    Server::start_with(&[&ON_DISK, more].concat()).await
}

async fn run(server: &Server, language: &str, code: &str) -> Value {
    let config = json!({"disk_mb": 64, "timeout_seconds": 60, "output_kb": 64});
    server.eval(&json!({"language": language, "code": code, "config": config})).await
}

/// A program, and a script with its mode.
fn project() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let main = "set -e; test \"$(df --output=fstype /work | tail -1)\" != tmpfs; stat -c '%a %u' /work; id -u\n\
                ./deep/down/tool; cat data.bin | sha256sum; mkdir out; cp data.bin out/; echo x > deep/new.txt\n";
    let data = vec![7; 20 << 20];
    for (path, mode, content) in [
        ("main.sh", 0o644, main.as_bytes()),
        ("deep/down/tool", 0o755, b"#!/bin/sh\necho tool\n"),
        ("data.bin", 0o644, &data),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        builder.append_data(&mut header, path, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn a_workspace_on_disk_is_used_like_one_in_memory() {
    let server = server(&[]).await;
    let result = server.sync(&project(), &json!({"config": {"disk_mb": 64}})).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
    let stdout: Vec<&str> = result["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(stdout[0], format!("700 {}", stdout[1]), "nobody else may look into it");
    assert_eq!(stdout[2], "tool");
    let paths: Vec<&str> =
        result["artifacts"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["deep/new.txt", "out/data.bin"], "{result:#}");
    assert_eq!(result["artifacts"][1]["size"], 20 * MIB);
    assert!(stdout[3].starts_with(result["artifacts"][1]["sha256"].as_str().unwrap()), "{result:#}");

    let compiled =
        tar_of(&[("main.c", b"#include <stdio.h>\nint main(void) { puts(\"built\"); return 3; }\n")]);
    let result = server.sync(&compiled, &json!({"config": {"disk_mb": 64}})).await;
    assert_eq!((&result["stdout"], &result["exit_code"]), (&json!("built\n"), &json!(3)), "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn what_grows_past_the_limit_is_stopped_in_whatever_way_it_grows() {
    let server = server(&["--disk-inodes", "2000"]).await;
    let endless = "; while :; do sleep 1; done";
    for (way, code) in [
        ("many large files", "i=0; while :; do i=$((i+1)); head -c 8M /dev/zero > f$i; done".to_owned()),
        ("many small files", "i=0; while :; do i=$((i+1)); : > f$i; done".to_owned()),
        ("hard links", "mkdir a; : > f; i=0; while :; do i=$((i+1)); ln f a/$i; done".to_owned()),
        ("folders in folders", "while :; do mkdir -p d/d/d/d/d/d/d/d; cd d/d/d/d/d/d/d/d; done".to_owned()),
        (
            "open files without a name",
            format!(
                "exec 7>a 8>b 9>c; rm a b c; for f in 7 8 9; do head -c 40M /dev/zero >&$f; done{endless}"
            ),
        ),
        (
            "in a folder that is shut",
            format!("mkdir d; for i in 1 2 3; do head -c 30M /dev/zero > d/$i; done; chmod 0 d{endless}"),
        ),
    ] {
        let result = run(&server, "bash", &code).await;
        let found = (result["reason"].as_str().unwrap(), result["exit_code"].as_i64().unwrap());
        assert_eq!(found, ("disk_limit", 137), "{way}: {result:#}");
        let error = result["error"].as_str().unwrap();
        assert!(error.contains("64 MiB or 2000 files") && error.contains("config.disk_mb"), "{way}: {error}");
        println!("stopped after {} ms: {way}", result["timings"]["run_ms"]);
    }
    server.finish().await;
}

/// The kernel lets nobody look at the files of a process that made itself private.
#[tokio::test]
async fn a_program_that_hides_its_open_files_gets_no_further() {
    let server = server(&[]).await;
    let code = "import ctypes, os, time\n\
                ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n\
                while True:\n\
                \x20   file = os.open('x', os.O_CREAT | os.O_RDWR)\n\
                \x20   os.unlink('x')\n\
                \x20   for _ in range(40): os.write(file, bytes(1 << 20))\n\
                \x20   time.sleep(0.2)\n";
    let result = run(&server, "python", code).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("disk_limit"), &json!(137)), "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn what_is_too_much_at_the_end_is_told_and_what_just_fits_is_not() {
    let server = server(&[]).await;
    let last = "for i in 1 2 3; do head -c 30M /dev/zero > f$i & done; wait; exit 4";
    let result = run(&server, "bash", last).await;
    assert_eq!(result["reason"], "disk_limit", "{result:#}");
    let result = run(&server, "bash", "head -c 100M /dev/zero > f; exit 4").await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("disk_limit"), &json!(4)), "{result:#}");
    let fits = "head -c 60M /dev/zero > f; ln f g; truncate -s 60M sparse; sleep 0.5; exit 4";
    let result = run(&server, "bash", fits).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(4)), "{result:#}");
    // More is written than fits, but never kept.
    let churn = "for i in $(seq 20); do head -c 30M /dev/zero > f; rm f; done";
    let result = run(&server, "bash", churn).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
    server.finish().await;
}

/// A container that serves several executions never has a volume: one with a volume serves one.
#[tokio::test]
async fn reused_containers_and_workspaces_on_disk_do_not_meet() {
    let server = server(&["--reuse", "tenant"]).await;
    for _ in 0..2 {
        let in_memory = json!({"language": "bash", "code": "ls; touch left", "config": {"disk_mb": 8}});
        assert_eq!(server.eval(&in_memory).await["stdout"], "main.sh\n");
        assert_eq!(run(&server, "bash", "ls; touch left").await["stdout"], "main.sh\n");
        let over = run(&server, "bash", "for i in $(seq 1000); do head -c 8M /dev/zero > $i; done").await;
        assert_eq!(over["reason"], "disk_limit", "{over:#}");
    }
    server.finish().await;
}

/// What a file takes of the page cache counts as memory of the container, and gives way.
#[tokio::test]
async fn a_workspace_larger_than_memory_takes_none_of_the_programs() {
    let server = server(&[]).await;
    let config = json!({"disk_mb": 512, "memory_mb": 32, "timeout_seconds": 120});
    let code = "for i in 1 2 3 4; do head -c 100M /dev/zero > f$i; done; cat f1 f2 f3 f4 | wc -c";
    let body = json!({"language": "bash", "code": code, "config": config, "artifacts": ["none"]});
    let result = server.eval(&body).await;
    assert_eq!(
        (&result["reason"], &result["stdout"]),
        (&json!("exited"), &json!("419430400\n")),
        "{result:#}"
    );
    server.finish().await;
}

/// A full disk of the Engine is nobody's doing, and never told as the program's.
#[tokio::test]
async fn with_too_little_room_on_the_engines_disk_the_failure_is_ours() {
    // The probe of its start, and the default workspace, are in memory.
    let server = Server::start_with(&["--disk-reserve-mb", "1000000000"]).await;
    let on_disk = json!({"language": "bash", "code": "sleep 1; echo done", "config": {"disk_mb": 2000}});
    let result = server.eval(&on_disk).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("internal"), &json!(125)), "{result:#}");
    let in_memory = json!({"language": "bash", "code": "echo done", "config": {"disk_mb": 16}});
    assert_eq!(server.eval(&in_memory).await["stdout"], "done\n");
    server.finish().await;
}

#[tokio::test]
async fn no_volume_is_left_however_a_container_goes() {
    let server = server(&[]).await;
    // On a busy machine the Engine takes seconds to remove a container: its program has to live longer.
    let submit = async |server: &Server| {
        let url = format!("{}/api/v1/exec/async", server.url);
        let code = "head -c 20M /dev/zero > f; echo up; sleep 6; echo done";
        let body =
            json!({"language": "bash", "code": code, "config": {"disk_mb": 64}, "artifacts": ["none"]});
        let answer: Value = server.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        let id = answer["execution_id"].as_str().unwrap().to_owned();
        server.wrote(&id, "up").await;
        id
    };
    let label = server.label();
    let killed = submit(&server).await;
    assert_eq!(engine::volumes(&label).await.len(), 1);
    server.kill(&killed).await;
    engine::assert_gone(&label).await;

    // By somebody who leaves its volume.
    let removed = submit(&server).await;
    engine::remove_container(&engine::running(&label).await.id.unwrap()).await;
    let result = server.wait(&removed).await;
    assert_eq!((&result["stdout"], &result["attempt"]), (&json!("up\ndone\n"), &json!(2)), "{result:#}");
    engine::assert_gone(&label).await;

    // With the server, by kill -9; and behind its back, without the volume.
    submit(&server).await;
    let container = engine::running(&label).await.id.unwrap();
    let data = server.crash().await;
    engine::remove_container(&container).await;
    assert_eq!(engine::volumes(&label).await.len(), 1, "nobody was there to remove it");
    let next = Server::start_on(data, &ON_DISK).await;
    let began = Instant::now();
    // The next server runs the execution again, in a volume of its own.
    while next.get_health().await["running"] != 0 || next.get_health().await["queued"] != 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    engine::assert_gone(&label).await;
    next.finish().await;
}

/// Another tenant's data is not on the blocks that a new file gets.
#[tokio::test]
async fn a_new_volume_is_empty_and_its_holes_are_zeros() {
    let server = server(&[]).await;
    run(&server, "bash", "yes secret | head -c 40M > f; sync").await;
    let code = "ls -A | grep -v -e main.sh -e .execbox; fallocate -l 40M f; tr -d '\\0' < f | wc -c";
    let result = run(&server, "bash", code).await;
    assert_eq!(result["stdout"], "0\n", "{result:#}");
    server.finish().await;
}
