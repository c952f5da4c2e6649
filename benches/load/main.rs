//! What callers notice when others do their worst: slow callers, thousands of connections, floods of submissions, bombs,
//! and hostile programs next door. Everything goes to the release binary over loopback and stops by itself. A figure that
//! is not held ends the run with an error.
//!
//! Latencies are told as multiples of the idle ones of the same run: the machine may be slow, or shared.
//!
//! - [`slow`]: callers that send or read a byte now and then.
//! - [`crowd`]: thousands of idle connections, and of submissions.
//! - [`floods`]: bodies that hold memory, of every kind at once.
//! - [`memory`]: everything together, and what the server occupies meanwhile.
//! - [`neighbours`]: a hello beside hostile programs, and beside another tenant's flood.
//! - [`company`]: a hello beside loops and sleepers of its own tenant, and many hellos at once.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]

mod company;
mod crowd;
mod floods;
mod memory;
mod neighbours;
mod slow;

#[path = "../speed/grid.rs"]
#[allow(dead_code, reason = "the benchmark of the speed uses the rest of it")]
mod grid;
#[path = "../speed/resident.rs"]
mod resident;
#[path = "../speed/samples.rs"]
#[allow(dead_code, reason = "the benchmark of the speed uses the rest of it")]
mod samples;
#[path = "../speed/server.rs"]
#[allow(dead_code, reason = "the benchmark of the speed uses the rest of it")]
mod server;
#[path = "../speed/table.rs"]
#[allow(dead_code, reason = "the benchmark of the speed uses the rest of it")]
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::samples::{Samples, timed};
use crate::table::Table;

/// Whatever goes wrong ends the measurement with its message.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The binary under measurement.
const EXECBOX: &str = env!("CARGO_BIN_EXE_execbox");
/// Between two questions whether the server is healthy.
const HEALTH_POLL: Duration = Duration::from_millis(15);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts this, too; a measurement is not a test.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    match measure(wanted.map(String::as_str)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All parts, or the one of this name. True when every figure holds.
async fn measure(wanted: Option<&str>) -> Result<bool> {
    // The callers' sockets are all in this process.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let processors = std::thread::available_parallelism()?;
    let mut table = Table::new(format!("{processors} processors, callers and server on the same machine."));
    let wants = |part: &str| wanted.is_none_or(|wanted| wanted == part);
    if wants("slow") {
        slow::measure(&mut table).await?;
    }
    if wants("crowd") {
        crowd::measure(&mut table).await?;
    }
    if wants("floods") {
        floods::measure(&mut table).await?;
    }
    if wants("memory") {
        memory::measure(&mut table).await?;
    }
    if wants("company") {
        company::measure(&mut table).await?;
    }
    if wants("neighbours") {
        neighbours::measure(&mut table).await?;
    }
    print!("{}", table.plain());
    if !table.holds() {
        eprintln!("load: a figure is not held");
    }
    Ok(table.holds())
}

/// How long `/healthz` takes, again and again for this long, always on the same connection or on a fresh one each.
async fn health(url: &str, fresh: bool, time: Duration) -> Result<Samples> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    let client = if fresh { client.pool_max_idle_per_host(0) } else { client }.build()?;
    let (mut samples, began, url) = (Samples::default(), Instant::now(), format!("{url}/healthz"));
    while began.elapsed() < time {
        let (took, answer) = timed(async { Ok(client.get(&url).send().await?) }).await?;
        if answer.status() != 200 {
            return Err(format!("health: {}", answer.status()).into());
        }
        samples.add(took);
        tokio::time::sleep(HEALTH_POLL).await;
    }
    Ok(samples)
}

/// A number out of `/metrics`.
async fn metric(url: &str, name: &str) -> Result<f64> {
    let text = reqwest::get(format!("{url}/metrics")).await?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map_or(Ok(0.0), str::parse)?)
}
