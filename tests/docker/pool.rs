//! Containers that wait: whatever becomes of them, whoever calls does not see it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use serde_json::{Value, json};

use crate::engine;
use crate::figures;
use crate::projects::tar_of;
use crate::server::Server;

/// Waits until nothing comes or goes any more, and gives the containers that wait: at least one.
async fn waiting(server: &Server) -> Vec<String> {
    let began = Instant::now();
    let mut before = Vec::new();
    loop {
        engine::assert_idle(&engine::engine().await, &server.label()).await;
        let found = engine::containers(&server.label()).await;
        if !found.is_empty() && found == before {
            return found;
        }
        before = found;
        assert!(began.elapsed() < Duration::from_secs(30), "nothing is kept warm: {before:?}");
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}

async fn hello(server: &Server) -> Value {
    let result = server.eval(&json!({"language": "bash", "code": "echo hello"})).await;
    assert_eq!((&result["stdout"], &result["attempt"]), (&json!("hello\n"), &json!(1)), "{result:#}");
    result
}

#[tokio::test]
async fn an_execution_takes_a_container_that_waits_and_each_only_once() {
    let server = Server::start_with(&["--reuse", "never"]).await;
    hello(&server).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = waiting(&server).await;
        let id = server.submit_code("bash", "echo up; sleep 60").await;
        server.wrote(&id, "up").await;
        let taken = engine::running(&server.label()).await.id.unwrap();
        server.kill(&id).await;
        assert!(before.contains(&taken), "it was there before: {taken} of {before:?}");
        assert!(!seen.contains(&taken), "it has served already");
        seen.push(taken);
    }
    server.finish().await;
}

/// Case H09.
#[tokio::test]
async fn one_that_died_stopped_or_is_gone_is_replaced_unseen() {
    for reuse in ["never", "tenant"] {
        let server = Server::start_with(&["--reuse", reuse]).await;
        hello(&server).await;
        for container in waiting(&server).await {
            engine::kill_container(&container, "KILL").await;
        }
        hello(&server).await;
        for container in waiting(&server).await {
            engine::remove_container(&container).await;
        }
        hello(&server).await;
        for container in waiting(&server).await {
            engine::pause_container(&container).await;
        }
        hello(&server).await;
        server.finish().await;
    }
}

/// The name of the execution that runs in a container, if one does: the last argument of its program.
async fn running_in(docker: &Docker, container: &str) -> Option<String> {
    let programs = engine::programs(docker, container).await.join(" ");
    programs.split_whitespace().find(|word| word.starts_with("number-")).map(str::to_owned)
}

/// Removes containers of this server, whatever they do, but of no execution more than one: its third attempt is the last,
/// and a removal before its program is seen is no hit. Each is stopped for the look, so that nothing starts in it after.
async fn remove(label: &str, removals: usize) {
    let docker = engine::engine().await;
    let (mut removed, mut hit, mut look) = (0, HashSet::<String>::new(), 0);
    while removed < removals {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let found = engine::containers(label).await;
        look += 7;
        let Some(container) = found.get(look % found.len().max(1)) else { continue };
        // It may not have started, or be gone.
        let paused = docker.pause_container(container).await.is_ok();
        let running = running_in(&docker, container).await;
        if running.as_ref().is_some_and(|name| hit.contains(name)) {
            if paused {
                drop(docker.unpause_container(container).await);
            }
            continue;
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if docker.remove_container(container, Some(options)).await.is_ok() {
            removed += 1;
            hit.extend(running);
        }
    }
}

#[tokio::test]
async fn no_execution_fails_while_containers_are_removed_under_it() {
    let server = Server::start_with(&["--workers", "4"]).await;
    let (removals, label) = (figures::count(20, 100), server.label());
    let mut removing = std::pin::pin!(remove(&label, removals));
    let (mut number, mut again, mut going) = (0, 0, true);
    while going {
        let run = |number: u32| {
            let code = format!("echo {number}; sleep 0.1; echo done");
            let body =
                json!({"language": "bash", "code": code, "script_args": [format!("number-{number}.")]});
            let server = &server;
            async move { (number, server.eval(&body).await) }
        };
        let mut results = std::pin::pin!(futures::future::join_all((number..number + 4).map(run)));
        let results = loop {
            tokio::select! {
                results = &mut results => break results,
                () = &mut removing, if going => going = false,
            }
        };
        number += 4;
        for (number, result) in results {
            assert_eq!(result["stdout"], format!("{number}\ndone\n"), "{result:#}");
            assert_eq!(
                (&result["status"], &result["exit_code"]),
                (&json!("completed"), &json!(0)),
                "{result:#}"
            );
            again += u64::from(result["attempt"] != json!(1));
        }
    }
    println!(
        "pool: {removals} containers removed during {number} executions, {again} of which ran again: none failed"
    );
    server.finish().await;
}

#[tokio::test]
async fn one_that_waits_gets_the_limits_that_are_asked_for() {
    const LIMITS: &str =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
        cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null";
    for reuse in ["never", "tenant"] {
        let server = Server::start_with(&["--reuse", reuse]).await;
        let default = server.eval(&json!({"language": "bash", "code": LIMITS})).await;
        let before = waiting(&server).await;
        let tar = tar_of(&[("main.sh", format!("{LIMITS}; echo up; sleep 60").as_bytes())]);
        let id = server.submit(&tar, &json!({"config": {"memory_mb": 300, "pids": 50}})).await;
        server.wrote(&id, "up").await;
        let taken = engine::running(&server.label()).await.id.unwrap();
        assert!(before.contains(&taken), "{reuse}: it was there before");
        let asked = server.kill(&id).await;
        assert_eq!(asked["status"], "killed");
        let asked = server.get(&id).await;
        let numbers = |result: &Value| -> Vec<u64> {
            result["stdout"].as_str().unwrap().lines().filter_map(|line| line.parse().ok()).collect()
        };
        let (default, asked) = (numbers(&default), numbers(&asked));
        assert_eq!(default[0] - asked[0], 212 << 20, "{reuse}: memory {default:?} {asked:?}");
        assert_eq!(default[1] - asked[1], 128 - 50, "{reuse}: pids {default:?} {asked:?}");
        server.finish().await;
    }
}
