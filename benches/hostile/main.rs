//! `make hostile`: runs every test that a case of `tests/hostile.toml` names, once, and prints what became of each case.
//! A name of which no test is found is a failure. When all is held, `docs/hostile.md` is written.
//!
//! `make hostile CASES="C D04"` runs the cases whose ids begin so, and writes nothing.
//!
//! - [`registry`]: the cases.
//! - [`tests`]: finding the test binaries, and running one test.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]

mod registry;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::registry::{Case, Registry};
use crate::tests::{Binaries, Ran};

/// Whatever keeps the tests from being run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts this, too, without the argument that `cargo bench` adds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    match run(&wanted).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True when every case is held.
async fn run(wanted: &[String]) -> Result<bool> {
    let mut registry = registry::read()?;
    let whole = wanted.is_empty();
    registry.retain(|id, _| whole || wanted.iter().any(|prefix| id.starts_with(prefix.as_str())));
    if registry.is_empty() {
        return Err(format!("no case begins with {}", wanted.join(" or ")).into());
    }
    let (ran, took) = run_tests(&registry).await?;
    for (name, ran) in ran.iter().filter(|(_, ran)| !ran.passed) {
        println!("---- {name}\n{}\n", ran.said.trim_end());
    }
    let held = print_table(&registry, &ran);
    println!("{} tests in {:.0} s", ran.len(), took.as_secs_f64());
    if held && whole {
        std::fs::write(registry::repository(registry::PAGE), registry::page(&registry))?;
    }
    Ok(held)
}

/// Each test once, whichever cases it belongs to, as many at a time as there are processors.
async fn run_tests(registry: &Registry) -> Result<(BTreeMap<String, Ran>, Duration)> {
    let names: BTreeSet<_> = registry.values().flat_map(|case| &case.tests).collect();
    eprintln!("hostile: {} cases name {} tests; building", registry.len(), names.len());
    let binaries = Binaries::build().await?;
    let began = Instant::now();
    let at_once = std::thread::available_parallelism()?.get();
    let runs = names.iter().map(|name| {
        let binaries = &binaries;
        async move { ((*name).clone(), binaries.run(name).await) }
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(at_once);
    let mut ran = BTreeMap::new();
    while let Some((name, one)) = runs.next().await {
        let one = one?;
        let (number, verdict) = (ran.len() + 1, if one.passed { "ok" } else { "FAILED" });
        eprintln!(
            "hostile: {number:>3}/{} {verdict:<6} {:>6.1} s  {name}",
            names.len(),
            one.took.as_secs_f64()
        );
        ran.insert(name, one);
    }
    Ok((ran, began.elapsed()))
}

/// One word for it, or a few. A case without tests stands as the file says.
fn outcome(case: &Case, ran: &BTreeMap<String, Ran>) -> String {
    let passed = case.tests.iter().all(|test| ran.get(test).is_some_and(|ran| ran.passed));
    if passed { case.standing() } else { "FAILED".to_owned() }
}

/// True when no case failed.
fn print_table(registry: &Registry, ran: &BTreeMap<String, Ran>) -> bool {
    let width = registry.values().map(|case| case.what.len()).max().unwrap_or_default();
    println!("case  {:<9}  {:<width$}  {:<14}  {:>7}", "class", "what", "outcome", "time");
    let mut counts = BTreeMap::<String, usize>::new();
    for (id, case) in registry {
        let outcome = outcome(case, ran);
        let time: Duration = case.tests.iter().filter_map(|test| ran.get(test)).map(|ran| ran.took).sum();
        let class = format!("{:?}", case.class);
        println!("{id:<4}  {class:<9}  {:<width$}  {outcome:<14}  {:>5.1} s", case.what, time.as_secs_f64());
        let word = outcome.split(':').next().unwrap_or_default().to_owned();
        *counts.entry(word).or_default() += 1;
    }
    let count = |word: &str| counts.get(word).copied().unwrap_or_default();
    println!(
        "{} cases: {} held, {} failed, {} later, {} absent",
        registry.len(),
        count("held"),
        count("FAILED"),
        count("later"),
        count("absent")
    );
    count("FAILED") == 0
}
