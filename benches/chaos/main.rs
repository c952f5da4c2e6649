//! `kill -9` at every point and at random times, and Engines that restart: what `make test` does a little of, in full.
//! `make chaos`; fewer with COUNT (random kills) and RESTARTS; POINTS=no leaves the points out.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
#![allow(dead_code, unused_imports, reason = "the tests use the rest of these files")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints tables, and a broken assumption ends it"
)]

#[path = "../../tests/docker/crash.rs"]
mod crash;
#[path = "../../tests/docker/crash_points.rs"]
mod crash_points;
#[path = "../../tests/docker/crash_random.rs"]
mod crash_random;
#[path = "../../tests/docker/crash_work.rs"]
mod crash_work;
#[path = "../../tests/docker/engine.rs"]
mod engine;
#[path = "../../tests/docker/engine_restarts.rs"]
mod engine_restarts;
#[path = "../../tests/docker/private_engine.rs"]
mod private_engine;
#[path = "../../tests/docker/server.rs"]
mod server;

use std::process::ExitCode;

/// Random kills of a full run.
const COUNT: usize = 500;
/// Restarts of the Engine of a full run.
const RESTARTS: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts this, too, without the argument that `cargo bench` adds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let of =
        |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str, full: usize| of(name).and_then(|text| text.parse().ok()).unwrap_or(full);
    let mut fine = crash_random::random_kills(number("COUNT", COUNT)).await;
    fine &= engine_restarts::many(number("RESTARTS", RESTARTS)).await;
    if of("POINTS") != Some("no") {
        fine &= crash_points::sweep().await;
    }
    println!(
        "chaos: {}",
        if fine { "every promise held" } else { "a promise was BROKEN; see VIOLATION above" }
    );
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
