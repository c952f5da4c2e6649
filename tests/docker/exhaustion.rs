//! Processors that a program takes, and descriptors and signals of the server itself.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::engine;
use crate::server::Server;
use crate::sweep::{assert_healthy, descriptors, resident};

/// Four processes on one processor's time, and a server that answers meanwhile.
#[tokio::test]
async fn a_program_gets_no_more_processor_time_than_its_limit_and_its_use_is_told() {
    const BURN: &str = "
import os, time
for _ in range(2):
    os.fork()
end = time.monotonic() + 3
while time.monotonic() < end:
    pass
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
";
    let server = Server::start().await;
    let body = json!({"code": BURN, "config": {"cpus": 1.0}});
    let burn = server.eval(&body);
    let watch = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..5 {
            assert_healthy(&server).await;
        }
    };
    let (result, ()) = tokio::join!(burn, watch);
    assert_eq!(result["exit_code"], 0, "{result:#}");
    let usage = |field: &str| result["usage"][field].as_f64().unwrap();
    let used = usage("cpu_ms") / usage("wall_ms");
    // The kernel hands processor time out in slices of 5 ms to 100 ms.
    assert!((0.05..=1.1).contains(&used), "it used {used} processors: {result:#}");
    assert!(usage("memory_peak_bytes") > 1e6, "{result:#}");
    server.finish().await;
}

/// Case C11: as fast as they can, on both outputs, one after the other in both places.
#[tokio::test]
async fn two_floods_leave_the_server_small_and_answering() {
    /// An unoptimised server; `make load` holds the figure of a release.
    const MOST_GROWTH: u64 = 64 << 20;
    let server = Server::start_with(&["--workers", "2"]).await;
    // A fresh build writes itself into the runner's volume first, which takes its own size of memory.
    for _ in 0..2 {
        server.eval(&json!({"language": "bash", "code": "echo before"})).await;
    }
    let before = resident(&server);
    let flood = json!({"language": "bash", "code": include_str!("../fixtures/output_flood/main.sh")});
    let floods = async || {
        for _ in 0..3 {
            let result = server.eval(&flood).await;
            assert_eq!(result["reason"], "output_limit", "{}", result["error"]);
            assert_eq!(
                (&result["truncated"]["stdout"], &result["truncated"]["stderr"]),
                (&json!(true), &json!(true))
            );
        }
    };
    let watch = async {
        let mut peak = 0;
        loop {
            assert_healthy(&server).await;
            peak = resident(&server).max(peak);
            assert!(peak < before + MOST_GROWTH, "{before} -> {peak} bytes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = futures::future::join(floods(), floods()) => {}
        () = watch => {}
    }
    server.finish().await;
}

/// More connections than the server can have descriptors: room is made among the idle ones, and work goes on.
#[tokio::test]
async fn a_server_never_runs_out_of_descriptors_and_gets_them_all_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_after("ulimit -n 128", data, &[]).await;
    server.eval(&json!({"language": "bash", "code": "echo before"})).await;
    let before = descriptors(&server);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let mut idle = Vec::new();
    for _ in 0..400 {
        let connection = tokio::net::TcpStream::connect(&address);
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), connection).await {
            idle.push(stream);
        }
    }
    assert!(idle.len() > 128, "only {} connections", idle.len());
    for _ in 0..3 {
        let hello = server.eval(&json!({"language": "bash", "code": "echo during"})).await;
        assert_eq!(hello["stdout"], "during\n", "{hello:#}");
    }
    assert!(descriptors(&server) < 128, "{} descriptors", descriptors(&server));
    drop(idle);
    let began = Instant::now();
    // The second number: containers that wait.
    while descriptors(&server) > before + 2 + 8 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} descriptors are left", descriptors(&server));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.finish().await;
}

#[tokio::test]
async fn every_signal_that_ends_a_server_drains_it() {
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        let mut server = Server::start().await;
        let id = server.submit_code("bash", "echo up; sleep 1; touch /work/done; echo done").await;
        server.wrote(&id, "up").await;
        let url = format!("{}/api/v1/executions/{id}?wait=30", server.url);
        let waiting = tokio::spawn(server.client.get(url).send());
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.signal(signal);
        let result: serde_json::Value = waiting.await.unwrap().unwrap().json().await.unwrap();
        assert_eq!(result["stdout"], "up\ndone\n", "{signal}: {result:#}");
        let label = server.label();
        assert_eq!(server.ended(Duration::from_secs(15)).await.code(), Some(0), "{signal}");
        engine::assert_gone(&label).await;
    }
}

#[tokio::test]
async fn the_hosts_oom_killer_takes_a_program_before_the_server() {
    let server = Server::start().await;
    let id = server.submit_code("bash", "echo up; sleep 60").await;
    server.wrote(&id, "up").await;
    let runner = engine::running(&server.label()).await.state.unwrap().pid.unwrap();
    let score = |pid: i64| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse::<i64>().unwrap()
    };
    let first_child = |pid: i64| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().map(|pid| pid.parse::<i64>().unwrap())
    };
    // The program's own child is the last. With rooms there is a runner between, whose score is the same.
    let descendants: Vec<i64> = std::iter::successors(Some(runner), |pid| first_child(*pid)).collect();
    let program = descendants[descendants.len() - 2];
    let [server_score, runner, program] = [i64::from(server.pid().as_raw()), runner, program].map(score);
    assert!(server_score < runner && runner < program, "{server_score}, {runner}, {program}");
    server.kill(&id).await;
    server.finish().await;
}
