//! An Engine that is stopped, killed or halted while a program runs. What the program's container then exits with
//! (143, 137) is never the program's result.

use std::time::{Duration, Instant};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::engine;
use crate::private_engine::PrivateEngine;
use crate::server::{EXECBOX, Server};

/// What callers are promised after the Engine's return, and the program's own two seconds, on a shared machine.
const RESUMED: Duration = Duration::from_secs(5 + 2);
/// How long a halted Engine stays so.
const HALT: Duration = Duration::from_secs(4);

/// The image that this build of execbox runs bash in.
async fn bash_image() -> String {
    let built = tokio::process::Command::new(EXECBOX)
        .args(["images", "build", "bash"])
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(built.success());
    let filters = std::collections::HashMap::from([("reference", vec!["execbox/bash"])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = engine::engine().await.list_images(Some(options)).await.unwrap();
    let newest = images.into_iter().max_by_key(|image| image.created).unwrap();
    newest.repo_tags.into_iter().find(|tag| tag.starts_with("execbox/bash:")).unwrap()
}

/// Stops the Engine in one way, and brings it back.
async fn restart(private: &mut PrivateEngine, signal: Signal) {
    private.signal(signal);
    if signal == Signal::SIGSTOP {
        tokio::time::sleep(HALT).await;
        private.signal(Signal::SIGCONT);
    } else {
        private.start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_restarts_never_makes_a_result() {
    let signals = [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGKILL, Signal::SIGTERM];
    restarts(&[], &signals).await;
}

/// The container outlives the Engine, but not the stream to its runner.
#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_that_leaves_containers_running() {
    restarts(&["--live-restore"], &[Signal::SIGTERM, Signal::SIGKILL]).await;
}

async fn restarts(flags: &'static [&'static str], signals: &[Signal]) {
    let mut private = PrivateEngine::start(flags).await;
    private.load(&bash_image().await).await;
    let host = private.host();
    let server = Server::start_with(&["--docker-host", &host]).await;
    for &signal in signals {
        let id = server.submit_code("bash", "echo up; sleep 2; echo done; exit 3").await;
        server.wrote(&id, "up").await;
        restart(&mut private, signal).await;
        let back = Instant::now();
        let result = server.wait(&id).await;
        let got = (&result["status"], &result["reason"], &result["exit_code"], &result["stdout"]);
        let right = (&json!("completed"), &json!("exited"), &json!(3), &json!("up\ndone\n"));
        assert_eq!(got, right, "{signal}: {result:#}");
        assert!(result["attempt"].as_u64().unwrap() <= 2, "{signal}: {result:#}");
        assert!(back.elapsed() < RESUMED, "{signal}: work resumed after {:?}", back.elapsed());
        assert_gone(&private, &server.label()).await;
    }
    server.finish().await;
}

async fn assert_gone(private: &PrivateEngine, label: &str) {
    let began = Instant::now();
    loop {
        let filters = std::collections::HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let left = private.docker().list_containers(Some(options)).await.unwrap();
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "containers are left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
