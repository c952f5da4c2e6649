//! The turns: every kind of sample in each round, one after the other.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bare::RootFs;
use crate::engine_cycle::EngineCycle;
use crate::samples::{Crowd, Samples, timed};
use crate::server::Server;
use crate::table::Table;
use crate::{MAX_RATIO, Result};

/// Rounds that are thrown away: caches and connections are cold.
const WARM_UP: usize = 3;
/// Rounds of one caller at most, ...
const ROUNDS: usize = 100;
/// ... as long as they take less than this.
const ROUNDS_TIME: Duration = Duration::from_secs(70);
/// After each sample: what it left to be removed must not be paid for by the next one.
const SETTLE: Duration = Duration::from_millis(80);
/// Callers at once in a crowded round.
const CALLERS: u32 = 8;
/// Operations of each caller in a crowded round.
const EACH: u32 = 4;
/// Crowded rounds.
const CROWDED_ROUNDS: usize = 3;
/// What the result says of its own time.
const TIMINGS: [&str; 4] = ["queue_ms", "sandbox_ms", "run_ms", "collect_ms"];

/// One caller.
#[derive(Default)]
struct Alone {
    bare: Samples,
    raw: Samples,
    raw_ended: Samples,
    sync: Samples,
    timings: [Samples; TIMINGS.len()],
}

impl Alone {
    async fn round(&mut self, root: &RootFs, engine: &EngineCycle, server: &Server) -> Result<()> {
        self.bare.add(timed(root.start_interpreter()).await?.0);
        let (took, ended) = timed(engine.run(0)).await?;
        self.raw.add(took);
        self.raw_ended.add(ended);
        tokio::time::sleep(SETTLE).await;
        let (took, timings) = timed(server.hello()).await?;
        self.sync.add(took);
        for (samples, name) in self.timings.iter_mut().zip(TIMINGS) {
            samples.add_ms(timings.get(name).and_then(Value::as_f64).unwrap_or(0.0));
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    fn report(&self, table: &mut Table) {
        table.value("bare interpreter start", &self.bare, "ms");
        table.value("raw Engine cycle", &self.raw, "ms");
        table.value("  of it until the program's end", &self.raw_ended, "ms");
        table.value("sync hello, 1 client", &self.sync, "ms");
        let ratio = self.sync.median() / self.raw.median();
        table.number("sync hello / raw cycle", ratio, "×").at_most(MAX_RATIO);
        let parts = self.timings.iter().zip(TIMINGS).map(|(part, name)| format!("{name} {}", part.median()));
        table.note("Our removal runs after the answer; the raw cycle ends with it.".to_owned());
        table.note(format!("Of the sync hello, in its own words: {}.", parts.collect::<Vec<_>>().join(", ")));
    }
}

/// One caller at a time.
pub(crate) async fn alone(root: &RootFs, engine: &EngineCycle, table: &mut Table) -> Result<()> {
    eprintln!("bench: one caller, at most {} s", ROUNDS_TIME.as_secs());
    let server = Server::start(&[]).await?;
    for _ in 0..WARM_UP {
        Alone::default().round(root, engine, &server).await?;
    }
    let (mut alone, began) = (Alone::default(), Instant::now());
    while alone.raw.count() < ROUNDS && began.elapsed() < ROUNDS_TIME {
        alone.round(root, engine, &server).await?;
    }
    server.stop().await?;
    alone.report(table);
    Ok(())
}

/// Several callers at once.
pub(crate) async fn crowded(engine: &EngineCycle, table: &mut Table) -> Result<()> {
    eprintln!("bench: {CALLERS} callers, {CROWDED_ROUNDS} rounds");
    let (usual, wide) = (Server::start(&[]).await?, Server::start(&["--workers", "8"]).await?);
    let (mut raw, mut sync, mut sync_wide) = (Crowd::default(), Crowd::default(), Crowd::default());
    for _ in 0..CROWDED_ROUNDS {
        raw.round(CALLERS, EACH, |caller| async move { engine.run(caller).await.map(drop) }).await?;
        tokio::time::sleep(SETTLE).await;
        sync.round(CALLERS, EACH, |_| async { usual.hello().await.map(drop) }).await?;
        tokio::time::sleep(SETTLE).await;
        sync_wide.round(CALLERS, EACH, |_| async { wide.hello().await.map(drop) }).await?;
        tokio::time::sleep(SETTLE).await;
    }
    usual.stop().await?;
    wide.stop().await?;
    table.value("raw Engine cycle, 8 at once", &raw.latency, "ms");
    table.value("sync hello, 8 clients", &sync.latency, "ms");
    table.value("sync hello, 8 clients, 8 workers", &sync_wide.latency, "ms");
    table.number("raw throughput, 8 at once", raw.best_per_second, "/s");
    table.number("sync throughput, 8 clients", sync.best_per_second, "/s");
    table.number("sync throughput, 8 clients, 8 workers", sync_wide.best_per_second, "/s");
    let best = sync.best_per_second.max(sync_wide.best_per_second);
    table.number("best sync throughput / raw", best / raw.best_per_second, "×");
    Ok(())
}
