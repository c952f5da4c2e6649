//! Kill, drain, a server that dies, and an Engine that others meddle with.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::engine;
use crate::server::Server;

const TICKING: &str = "for i in $(seq 600); do echo tick $i; sleep 0.1; done";

#[tokio::test]
async fn delete_kills_and_what_was_written_stays() {
    let server = Server::start().await;
    let id = server.submit_code("bash", TICKING).await;
    server.wrote(&id, "tick 3").await;
    let began = Instant::now();
    let answer = server.kill(&id).await;
    let took = began.elapsed();
    assert_eq!(answer["status"], "killed");
    // The figure to hold is 300 ms at the 99th percentile; a shared machine gets some room.
    assert!(took < Duration::from_secs(1), "the kill took {took:?}");
    let result = server.get(&id).await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("killed"), &json!("killed")), "{result:#}");
    assert!(result["stdout"].as_str().unwrap().contains("tick 3"));
    assert_eq!(server.kill(&id).await["status"], "killed", "again is fine");
    server.finish().await;
}

#[tokio::test]
async fn a_container_removed_from_outside_is_our_failure_and_tried_again() {
    let server = Server::start().await;
    let id = server.submit_code("bash", "echo up; sleep 2; echo done").await;
    server.wrote(&id, "up").await;
    let container = engine::running(&server.label()).await.id.unwrap();
    engine::remove_container(&container).await;
    let result = server.wait(&id).await;
    assert_eq!((&result["reason"], &result["attempt"]), (&json!("exited"), &json!(2)), "{result:#}");
    assert_eq!(result["stdout"], "up\ndone\n", "the output of the lost attempt is void");
    server.finish().await;
}

#[tokio::test]
async fn an_image_removed_from_outside_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    // An image of its own: another run of this test on the same Engine must not remove it, too.
    let dockerfile = format!("FROM debian:trixie-slim\nLABEL for={}\n", uuid::Uuid::new_v4());
    std::fs::write(own.join("Dockerfile"), dockerfile).unwrap();
    let manifest =
        "name = \"own\"\nversion = \"1\"\nextensions = [\"own\"]\nrun = [\"/bin/cat\", \"{entrypoint}\"]\n";
    std::fs::write(own.join("runtime.toml"), manifest).unwrap();
    // A container that waits would need no image.
    let flags = ["--images-dir", folder.path().to_str().unwrap(), "--reuse", "never", "--warm-max", "0"];
    let server = Server::start_with(&flags).await;

    let first = server.eval(&json!({"language": "own", "files": [{"name": "a.own", "content": "hi"}]})).await;
    assert_eq!(first["stdout"], "hi", "a runtime that is only a folder: {first:#}");
    let image = engine::engine()
        .await
        .list_images(None::<bollard::query_parameters::ListImagesOptions>)
        .await
        .unwrap();
    let name =
        image.iter().flat_map(|image| &image.repo_tags).find(|tag| tag.starts_with("execbox/own:")).unwrap();
    engine::remove_image(name).await;
    let second =
        server.eval(&json!({"language": "own", "files": [{"name": "a.own", "content": "hi"}]})).await;
    assert_eq!((&second["stdout"], &second["attempt"]), (&json!("hi"), &json!(1)), "{second:#}");
    engine::remove_image(name).await;
    server.finish().await;
}

#[tokio::test]
async fn sigterm_lets_running_work_finish_and_takes_no_more() {
    let mut server = Server::start().await;
    let id = server.submit_code("bash", "echo up; sleep 2; echo done").await;
    server.wrote(&id, "up").await;
    let waiting = tokio::spawn({
        let (client, url) = (server.client.clone(), format!("{}/api/v1/executions/{id}?wait=30", server.url));
        async move { client.get(url).send().await.unwrap().json::<serde_json::Value>().await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let body = json!({"code": "1"});
    let refused = server.client.post(format!("{}/api/v1/eval", server.url)).json(&body).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let result = waiting.await.unwrap();
    assert_eq!(result["stdout"], "up\ndone\n", "{result:#}");
    let label = server.label();
    assert!(server.ended(Duration::from_secs(10)).await.success());
    engine::assert_gone(&label).await;
}

/// Figure P11.
#[tokio::test]
async fn a_shutdown_waits_no_longer_than_its_grace() {
    let grace = Duration::from_secs(2);
    let mut server = Server::start_with(&["--drain-seconds", "2"]).await;
    let id = server.submit_code("bash", TICKING).await;
    server.wrote(&id, "tick 1").await;
    let began = Instant::now();
    server.signal(Signal::SIGTERM);
    let status = server.ended(Duration::from_secs(10)).await;
    let took = began.elapsed();
    println!("P11  the end came {took:.2?} after SIGTERM, with a grace of {grace:?} (≤ 1 s more)");
    assert!(status.success(), "{status}");
    assert!(took >= grace && took <= grace + Duration::from_secs(1), "{took:?}");
    assert_program_gone(&server.label()).await;
    let data = std::mem::replace(&mut server.data, tempfile::tempdir().unwrap());
    let next = Server::start_on(data, &[]).await;
    let waits = next.get(&id).await;
    assert!(matches!(waits["status"].as_str(), Some("pending" | "running")), "nothing is lost: {waits:#}");
    next.kill(&id).await;
    next.finish().await;
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once_and_no_program_outlives_the_server() {
    let mut server = Server::start().await;
    let id = server.submit_code("bash", TICKING).await;
    server.wrote(&id, "tick 1").await;
    server.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal(Signal::SIGTERM);
    server.ended(Duration::from_secs(3)).await;
    assert_program_gone(&server.label()).await;
}

#[tokio::test]
async fn a_server_that_dies_leaves_no_program_and_the_next_one_cleans_up() {
    let server = Server::start().await;
    let id = server.submit_code("bash", TICKING).await;
    server.wrote(&id, "tick 1").await;
    let label = server.label();
    let dead = engine::running(&label).await.id.unwrap();
    let data = server.crash().await;
    // Its container may go before the next start: any server that starts on this host removes what dead ones left.
    assert_program_gone(&label).await;
    let next = Server::start_on(data, &[]).await;
    assert_eq!(next.label(), label);
    assert!(!engine::containers(&label).await.contains(&dead));
    // It was acknowledged, so it runs again.
    assert_eq!(next.kill(&id).await["status"], "killed");
    next.finish().await;
}

/// The runner sees the end of its input and stops.
async fn assert_program_gone(label: &str) {
    let began = Instant::now();
    loop {
        let mut alive = 0;
        for id in engine::containers(label).await {
            let options = None::<bollard::query_parameters::InspectContainerOptions>;
            let inspected = engine::engine().await.inspect_container(&id, options).await;
            alive += usize::from(
                inspected.is_ok_and(|it| it.state.is_some_and(|state| state.running == Some(true))),
            );
        }
        if alive == 0 {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "a program outlived its server");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_with_what_to_do() {
    let server = Server::start().await;
    let second = std::process::Command::new(crate::server::EXECBOX)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let complaint = String::from_utf8_lossy(&second.stderr);
    assert!(complaint.contains("--data-dir"), "{complaint}");
    server.finish().await;
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_any_more_still_answers() {
    let data = tempfile::tempdir().unwrap();
    let (mut process, url) = crate::crash::spawn_silent(data.path());
    let url = tokio::task::spawn_blocking(move || url.recv().unwrap()).await.unwrap();
    // Its reader is gone by now: what it writes fails.
    let client = reqwest::Client::new();
    for _ in 0..3 {
        let body = json!({"language": "bash", "code": "echo heard"});
        let answer = client.post(format!("{url}/api/v1/eval")).json(&body).send().await;
        let result: serde_json::Value = answer.expect("an answer").json().await.unwrap();
        assert_eq!(result["stdout"], "heard\n", "{result:#}");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGTERM)
        .unwrap();
    let status = tokio::task::spawn_blocking(move || process.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
}
