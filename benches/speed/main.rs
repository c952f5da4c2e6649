//! How fast execbox is beside what it stands on and what others do, all measured in one run. Ratios are held to bounds; a
//! figure that is not held ends the run with an error, after everything is printed. `ONLY='latency c'` takes some groups.
//!
//! All kinds of start have their turn in each round, after one round that is thrown away, so that a machine that gets
//! slower gets slower for all of them. After each turn the machine comes to rest: what a turn left to be removed is its own.
//! Processor time "of all" is everything that ran: server, Engine, containers, callers and kernel.
//!
//! # Rows
//! - **bare interpreter**: fork, exec and wait for `python3 -c pass` in the image's root file system, no container
//!   ([`bare`]). On as many processors as there are, it is the limit of what any server can reach that starts a process.
//! - **raw Engine cycle**: create, attach, start, end, remove, with our whole container profile, straight through the
//!   Engine's socket ([`engine_cycle`]); its best at 1, 2, 4 and 8 at once limits who makes a container for each execution.
//! - **exec into a living container**: the Engine's exec, nothing emptied between two programs ([`living`]).
//! - **bwrap**: Bubblewrap around the same root file system ([`bubblewrap`]).
//! - **llm-sandbox, pooled**: a peer from PyPI that keeps its containers and empties nothing ([`peer`]).
//! - **execbox**: `POST /api/v1/eval` of `print('hello')` over one kept connection, once for each setting
//!   ([`settings`]). "A call every 250ms" is somebody who reads the answers, and the warm pool fills meanwhile; "call after
//!   call" empties it, and measures how fast the Engine makes containers where each execution has its own.
//! - **what the server adds to a hello in C**: wall time without the compiler's and the program's own.
//!
//! # Groups
//! - `latency`, `throughput`, `c`: [`hello`], by [`turns`] of one caller and [`rates`] of several.
//! - `async`: [`submissions`], how many are durably accepted each second, and what 10,000 that wait occupy.
//! - `upload`: a project of 1 GiB ([`upload`]).
//! - `idle`: processor time of a server that nobody calls ([`idle`]).
//! - `memory`: what it occupies while it is idle, and flooded ([`memory`]).
//! - `starts`: exec to ready, and the size of the binary.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]
#![allow(clippy::disallowed_methods, reason = "callers are threads, which may sleep")]

mod archive;
mod bare;
mod bubblewrap;
mod client;
mod closed_loop;
mod contender;
mod cpu;
mod engine_cycle;
mod grid;
mod hello;
mod idle;
mod living;
mod memory;
mod peer;
mod plot;
mod rates;
mod report;
mod resident;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
mod samples;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
mod server;
mod settings;
mod submissions;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
mod table;
mod turns;
mod upload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use execbox::runtime::Catalogue;

use crate::engine_cycle::EngineCycle;
use crate::report::Report;
use crate::samples::Samples;
use crate::server::Server;
use crate::table::MB;

/// Whatever goes wrong ends the measurement with its message.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// The binary under measurement.
const EXECBOX: &str = env!("CARGO_BIN_EXE_execbox");
/// Starts of a server that are timed.
const STARTS: usize = 5;
/// From exec to the first 200 of `/readyz`, in milliseconds.
const MAX_READY_MS: f64 = 1_000.0;
/// Size of the binary, in MB.
const MAX_BINARY_MB: f64 = 20.0;

/// What is measured; everything where nothing is named.
struct Groups(Vec<String>);

impl Groups {
    fn wants(&self, group: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == group)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [first, root] if first == bare::ARGUMENT => bare::serve(root).map(|()| true),
        // `cargo test --all-targets` starts this, too; a measurement is not a test.
        all if !all.iter().any(|argument| argument == "--bench") => Ok(true),
        all => measure(Groups(all.iter().filter(|group| !group.starts_with('-')).cloned().collect())),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench: a figure was not held");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure(groups: Groups) -> Result<bool> {
    let image = Catalogue::load(None)?.resolve("python")?.image_name();
    let engine = Arc::new(EngineCycle::prepare(&image).await?);
    let mut report = Report::new(engine.machine().await?);
    let measured = all(&engine, &image, &groups, &mut report).await;
    // Also when something failed half way.
    engine.clean_up().await?;
    measured?;
    print!("{}", report.plain());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file: PathBuf = folder.join("target").join("bench.md");
    std::fs::write(&file, report.markdown())?;
    println!("\nThe same as Markdown: {}", file.display());
    if report.draw(&folder.join("docs").join("bench.svg"))? {
        println!("The plot: docs/bench.svg");
    }
    Ok(report.holds())
}

async fn all(engine: &Arc<EngineCycle>, image: &str, groups: &Groups, report: &mut Report) -> Result<()> {
    if groups.wants("starts") {
        starts(report).await?;
    }
    if ["latency", "throughput", "c"].iter().any(|group| groups.wants(group)) {
        hello::measure(engine, image, groups, report).await?;
    }
    if groups.wants("async") {
        submissions::measure(report).await?;
    }
    if groups.wants("upload") {
        upload::measure(engine, report).await?;
    }
    if groups.wants("idle") {
        idle::measure(report).await?;
    }
    if groups.wants("memory") {
        memory::measure(&mut report.facts).await?;
    }
    Ok(())
}

/// How long a server takes to be ready when the images exist.
async fn starts(report: &mut Report) -> Result<()> {
    eprintln!("bench: {STARTS} starts");
    // The first puts the runner into its volume, once for each build.
    Server::start(&[]).await?.stop().await?;
    let mut ready = Samples::default();
    for _ in 0..STARTS {
        let server = Server::start(&[]).await?;
        ready.add(server.ready_after());
        server.stop().await?;
    }
    report.facts.value("serve: exec to ready", &ready, "ms").at_most(MAX_READY_MS);
    let binary = table::float(std::fs::metadata(EXECBOX)?.len()) / MB;
    report.facts.number("release binary, stripped", binary, "MB").at_most(MAX_BINARY_MB);
    Ok(())
}
