//! Many executions through one server, and what is left after them: containers, volumes, descriptors, memory,
//! processes, folders. `make soak` runs 10,000; `make soak COUNT=500` fewer.
//!
//! Every execution's output is checked. Results are purged once they are read, so that what grows is a leak.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]

#[path = "../speed/server.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest of it")]
mod server;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bollard::Docker;
use bollard::models::Volume;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptions};
use futures::StreamExt as _;
use serde_json::json;

use crate::server::Server;

/// Whatever goes wrong ends the run with its message.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The binary under test.
const EXECBOX: &str = env!("CARGO_BIN_EXE_execbox");
/// Executions of a full run.
const COUNT: usize = 10_000;
/// Callers at once.
const CALLERS: usize = 8;
/// Executions before the first look, so that pools and caches have their size.
const WARM_UP: usize = 200;
/// What resident memory may grow by over a run, in MB.
const MAX_GROWTH_MB: f64 = 10.0;
/// Executions between two lines of progress.
const PROGRESS: usize = 500;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // `cargo test --all-targets` starts this, too, without the argument that `cargo bench` adds.
    if !arguments.any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(COUNT);
    match soak(count).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is looked at before and after.
#[derive(Debug, Clone, Copy)]
struct State {
    containers: usize,
    volumes: usize,
    descriptors: usize,
    threads: usize,
    resident_mb: f64,
}

async fn soak(count: usize) -> Result<bool> {
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    let server = Server::start(&["--workers", "4"]).await?;
    run(&server, WARM_UP).await?;
    let before = settled(&docker, &server).await?;
    let began = Instant::now();
    run(&server, count).await?;
    let seconds = began.elapsed().as_secs_f64();
    let after = settled(&docker, &server).await?;
    server.stop().await?;
    let left = containers(&docker).await?;
    Ok(report(count, seconds, before, after, left))
}

/// Runs this many, each with an output of its own that is checked, and purges them.
async fn run(server: &Server, count: usize) -> Result<()> {
    let done = AtomicUsize::new(0);
    let executions = futures::stream::iter(0..count).map(|number| {
        let done = &done;
        async move {
            let code = format!("echo {number}; echo {number} > left.txt; exit $(({number} % 7))");
            let result = server.eval(&json!({"language": "bash", "code": code})).await?;
            let as_expected = result["stdout"] == format!("{number}\n")
                && result["exit_code"] == number % 7
                && result["attempt"] == 1
                && result["artifacts"].as_array().is_some_and(|artifacts| artifacts.len() == 1);
            if !as_expected {
                return Err(format!("execution {number} went wrong: {result}").into());
            }
            server.purge(&result).await?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(PROGRESS) {
                eprintln!("soak: {done} of {count}");
            }
            Ok(())
        }
    });
    let mut executions = executions.buffer_unordered(CALLERS);
    while let Some(result) = executions.next().await {
        let result: Result<()> = result;
        result?;
    }
    Ok(())
}

/// The state once removals, which run off the callers' path, are through.
async fn settled(docker: &Docker, server: &Server) -> Result<State> {
    for _ in 0..100 {
        if containers(docker).await? == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // Idle connections and threads of the blocking pool go after a while.
    tokio::time::sleep(std::time::Duration::from_secs(35)).await;
    let process = std::path::Path::new("/proc").join(server.pid().to_string());
    let status = std::fs::read_to_string(process.join("status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).ok_or("a status without it")
    };
    let volumes = docker.list_volumes(None::<ListVolumesOptions>).await?;
    // Runners' volumes come and go with the starts of other servers.
    let ours = |volume: &Volume| !volume.name.starts_with("execbox-runner-");
    Ok(State {
        containers: containers(docker).await?,
        volumes: volumes.volumes.unwrap_or_default().iter().filter(|volume| ours(volume)).count(),
        descriptors: std::fs::read_dir(process.join("fd"))?.count(),
        threads: std::fs::read_dir(process.join("task"))?.count(),
        resident_mb: field("VmRSS:")? * 1024.0 / 1e6,
    })
}

async fn containers(docker: &Docker) -> Result<usize> {
    let filters = HashMap::from([("label", vec!["execbox.app"])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    Ok(docker.list_containers(Some(options)).await?.len())
}

fn report(count: usize, seconds: f64, before: State, after: State, left: usize) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / seconds;
    let growth = after.resident_mb - before.resident_mb;
    println!(
        "{count} executions in {seconds:.0} s ({rate:.1}/s), {CALLERS} callers, every output as expected"
    );
    println!("{:<28} {:>8} {:>8}  hold", "", "before", "after");
    let mut fine = true;
    let mut row = |name: &str, before: usize, after: usize| {
        let held = after <= before;
        fine &= held;
        println!("{name:<28} {before:>8} {after:>8}  {}", if held { "ok" } else { "OVER" });
    };
    row("containers", before.containers, after.containers);
    row("volumes", before.volumes, after.volumes);
    row("server's descriptors", before.descriptors, after.descriptors);
    row("server's threads", before.threads, after.threads);
    row("containers after its end", 0, left);
    let held = growth < MAX_GROWTH_MB;
    let verdict = if held { "ok" } else { "OVER" };
    println!("{:<28} {:>8.1} {:>8.1}  {verdict}", "server's RSS, MB", before.resident_mb, after.resident_mb);
    fine && held
}
