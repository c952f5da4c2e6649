//! The figures that are held with the real Engine. `make figures` runs the full counts, prints every line, and fails when
//! one is over; with every other run of the tests the counts are small, and only what no slow machine excuses fails.

use execbox::sandbox::docker::Reuse;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::probe::{limits, sandbox};
use crate::projects::{repository, tar, tar_of};
use crate::server::Server;
use execbox::runner::probe::Outcome;
use execbox::sandbox::Sandbox as _;

#[allow(clippy::disallowed_methods, reason = "a test has no settings of its own")]
pub fn full() -> bool {
    std::env::var_os("FIGURES").is_some()
}

/// How many: a part of it with every test run, all of it for `make figures`.
pub fn count(part: usize, all: usize) -> usize {
    if full() { all } else { part }
}

struct Samples(Vec<Duration>);

impl Samples {
    fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort();
        Self(samples)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    /// Prints them; over `p99` is only an error where the machine is ours.
    fn hold(&self, what: &str, p99: Duration, most: Duration) {
        let max = self.at(100);
        let held = self.at(99) <= p99 && max <= most;
        println!(
            "{what:<44} n = {:<5} median {:>6.1?}, p99 {:>6.1?} (≤ {p99:?}), max {max:>6.1?} (≤ {most:?})  {}",
            self.0.len(),
            self.at(50),
            self.at(99),
            if held { "ok" } else { "OVER" }
        );
        assert!(max <= most, "{what}: {max:?}");
        assert!(held || !full(), "{what}: p99 {:?}", self.at(99));
    }
}

/// Writes as fast as it can without coming to the output limit within its time.
const FLOOD: &[u8] = b"
import os, time
while True:
    os.write(1, b'out\\n' * 16384)
    os.write(2, b'err\\n' * 16384)
    time.sleep(0.005)
";

/// How much longer than its second a program kept its execution from ending. Not the way of 32 MiB to the caller.
async fn overshoot(server: &Server, tar: &[u8]) -> Duration {
    let config = json!({"timeout_seconds": 1, "pids": 64, "output_kb": 16384});
    let result = server.sync(tar, &json!({"config": config, "artifacts": ["none"]})).await;
    assert_eq!(result["reason"], "timed_out", "{}", result["error"]);
    let at = |field: &str| result[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let took = Duration::try_from(at("finished_at").duration_since(at("started_at"))).unwrap();
    let before = ["install_ms", "sandbox_ms", "compile_ms"];
    let before: f64 = before.iter().map(|part| result["timings"][part].as_f64().unwrap()).sum();
    took.saturating_sub(Duration::from_secs_f64(before / 1000.0) + Duration::from_secs(1))
}

/// Figure P5.
#[tokio::test]
async fn no_program_gets_far_over_its_deadline() {
    let server = Server::start_with(&["--workers", "1"]).await;
    let fixture = |name: &str| tar(&repository(&format!("tests/fixtures/{name}")));
    for (name, tar) in [
        ("a fork bomb", fixture("fork_bomb")),
        ("reaching for the runner", fixture("reaches_for_the_runner")),
        ("deaf to every signal", fixture("ignores_sigterm")),
        ("an output flood", tar_of(&[("main.py", FLOOD)])),
        ("a stopped process", fixture("stops_itself")),
    ] {
        let mut samples = Vec::new();
        for _ in 0..count(3, 50) {
            samples.push(overshoot(&server, &tar).await);
        }
        let what = format!("P5  over its deadline: {name}");
        Samples::new(samples).hold(&what, Duration::from_millis(500), Duration::from_secs(2));
    }
    server.finish().await;
}

/// Figure P9: the time of a kill, to the terminal state.
#[tokio::test]
async fn a_kill_is_fast_whatever_the_program_does() {
    let server = Server::start().await;
    let mut samples = Vec::new();
    for number in 0..count(9, 100) {
        let code = [
            "echo up; sleep 60",
            "echo up; trap '' TERM INT HUP; while :; do sleep 1; done",
            "echo up; yes > /work/x",
        ];
        let id = server.submit_code("bash", code[number % code.len()]).await;
        server.wrote(&id, "up").await;
        let began = Instant::now();
        assert_eq!(server.kill(&id).await["status"], "killed");
        samples.push(began.elapsed());
        assert_eq!(server.kill(&id).await["status"], "killed", "again is fine");
        let result = server.get(&id).await;
        assert_eq!(result["reason"], "killed", "{result:#}");
    }
    Samples::new(samples).hold("P9  a kill", Duration::from_millis(300), Duration::from_secs(2));
    server.finish().await;
}

/// Figure P9: kills at every moment of an execution's life, with the real Engine.
#[tokio::test]
async fn kills_at_any_moment_leave_one_result_and_nothing_else() {
    let server = Server::start_with(&["--workers", "4"]).await;
    let races = futures::stream::iter(0..count(24, 200)).map(|number| {
        let server = &server;
        async move {
            let id = server.submit_code("bash", "echo one; sleep 0.05; echo two").await;
            tokio::time::sleep(Duration::from_millis(number as u64 * 97 % 1200)).await;
            let (first, second, waited) = tokio::join!(server.kill(&id), server.kill(&id), server.wait(&id));
            assert_eq!(waited, server.get(&id).await, "a result changed");
            assert!(first["status"] == second["status"] && first["status"] == waited["status"], "{waited:#}");
            match waited["status"].as_str().unwrap() {
                "completed" => assert_eq!(waited["stdout"], "one\ntwo\n", "{waited:#}"),
                other => assert_eq!((other, &waited["reason"]), ("killed", &json!("killed")), "{waited:#}"),
            }
            waited["status"].clone()
        }
    });
    let results: Vec<Value> = races.buffer_unordered(4).collect().await;
    let killed = results.iter().filter(|status| *status == "killed").count();
    println!("P9  {} races with the real Engine, one result each: {killed} killed", results.len());
    assert!(killed > 0 && killed < results.len(), "{killed} of {} killed: no race", results.len());
    server.finish().await;
}

/// Figure P7.
#[tokio::test]
async fn the_probe_of_a_start_is_fast_and_whole() {
    let sandbox = sandbox("figures-probe").await;
    // The first puts the runner into its volume.
    sandbox.probe(&limits(), Reuse::Never).await.unwrap();
    let (mut samples, mut rows) = (Vec::new(), (0, 0, 0));
    for _ in 0..count(3, 20) {
        let began = Instant::now();
        let report = sandbox.probe(&limits(), Reuse::Never).await.unwrap();
        samples.push(began.elapsed());
        let found = |outcome| report.that(outcome).count();
        rows = (found(Outcome::Refused), found(Outcome::Unknown), found(Outcome::Worked));
    }
    sandbox.close().await;
    println!(
        "P7  {} calls and paths refused, {} not told by this machine, {} worked",
        rows.0, rows.1, rows.2
    );
    assert!(rows.0 >= 100 && rows.2 == 0, "{rows:?}");
    Samples::new(samples).hold("P7  the probe of a start", Duration::from_secs(2), Duration::from_secs(5));
}
