//! What execbox costs over what it stands on, all measured in one run: a bare interpreter in the same root file
//! system, a raw Engine cycle with the same profile, and our own sync hello; then memory, size and start-up.
//!
//! The kinds of sample take turns, so that a machine that gets slower gets slower for all of them.
//!
//! - [`bare`]: the interpreter without a container.
//! - [`engine_cycle`]: create, attach, start, wait, remove, through the Engine's socket.
//! - [`server`]: the release binary as an operator starts it.
//! - [`memory`]: what the server occupies while it is idle, uploaded to, flooded; [`resident`] is how it is measured.
//! - [`speed`]: the turns.
//! - [`samples`], [`table`]: the numbers and how they are shown.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]

mod bare;
mod engine_cycle;
mod memory;
mod resident;
mod samples;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
mod server;
mod speed;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use execbox::runtime::Catalogue;

use crate::bare::RootFs;
use crate::engine_cycle::EngineCycle;
use crate::samples::Samples;
use crate::server::Server;
use crate::table::{MB, Table};

/// Whatever goes wrong ends the measurement with its message.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The binary under measurement.
const EXECBOX: &str = env!("CARGO_BIN_EXE_execbox");
/// Starts of a server that are timed.
const STARTS: usize = 5;
/// Our sync hello may take at most this many raw Engine cycles.
const MAX_RATIO: f64 = 1.25;
/// From exec to the first 200 of `/readyz`, in milliseconds.
const MAX_READY_MS: f64 = 1_000.0;
/// Size of the binary, in MB.
const MAX_BINARY_MB: f64 = 20.0;

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --all-targets` starts this, too; a measurement is not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match measure().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<()> {
    let image = Catalogue::load(None)?.resolve("python")?.image_name();
    let engine = EngineCycle::prepare(Path::new(EXECBOX), &image).await?;
    let measured = all(&engine, &image).await;
    // Also when something failed half way.
    engine.clean_up().await?;
    let table = measured?;
    print!("{}", table.plain());
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "target", "bench.md"].iter().collect();
    std::fs::write(&file, table.markdown())?;
    println!("\nThe same as Markdown: {}", file.display());
    Ok(())
}

async fn all(engine: &EngineCycle, image: &str) -> Result<Table> {
    let mut table = Table::new(engine.machine().await?);
    eprintln!("bench: the root file system of {image}");
    let root = RootFs::export(engine.docker(), image).await?;
    let ready = starts().await?;
    speed::alone(&root, engine, &mut table).await?;
    speed::crowded(engine, &mut table).await?;
    memory::measure(&mut table).await?;
    table.value("serve: exec to ready", &ready, "ms").at_most(MAX_READY_MS);
    let binary = table::float(std::fs::metadata(EXECBOX)?.len()) / MB;
    table.number("release binary, stripped", binary, "MB").at_most(MAX_BINARY_MB);
    Ok(table)
}

/// How long a server takes to be ready when the images exist.
async fn starts() -> Result<Samples> {
    eprintln!("bench: {STARTS} starts");
    // The first puts the runner into its volume, once for each build.
    Server::start(&[]).await?.stop().await?;
    let mut ready = Samples::default();
    for _ in 0..STARTS {
        let server = Server::start(&[]).await?;
        ready.add(server.ready_after());
        server.stop().await?;
    }
    Ok(ready)
}
