//! A hello beside long programs of its own tenant, and many hellos at once: with the default number of workers, and with
//! one for each processor.

use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::Result;
use crate::samples::{Samples, timed};
use crate::server::Server;
use crate::table::Table;

/// Long programs at once.
const LONG: usize = 4;
/// How long they go on, in seconds: time for the hellos beside them.
const LONG_SECONDS: u64 = 20;
/// Hellos in a row.
const HELLOS: usize = 40;
/// Callers at once, each with one hello.
const CALLERS: usize = 30;
/// A hello beside loops takes at most this many idle ones, at the 95th percentile.
const MAX_RATIO: f64 = 3.0;
/// Until the long programs run.
const LEAD: Duration = Duration::from_secs(2);

const LOOP: &str = "while True: pass";
const SLEEP: &str = "import time\ntime.sleep(600)";

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    with(table, "default workers", &[], true).await?;
    let processors = std::thread::available_parallelism()?.to_string();
    with(table, "a worker for each processor", &["--workers", &processors], false).await
}

async fn with(table: &mut Table, name: &str, flags: &[&str], held: bool) -> Result<()> {
    eprintln!("load: a hello in company, {name}");
    let server = Server::start(flags).await?;
    hellos(&server, 3).await?;
    let idle = hellos(&server, HELLOS).await?;
    table.value(&format!("hello, idle ({name})"), &idle, "ms");
    for (what, code) in [("loops", LOOP), ("sleepers", SLEEP)] {
        let long = start(&server, code).await?;
        tokio::time::sleep(LEAD).await;
        let beside = hellos(&server, if held { HELLOS } else { 3 }).await?;
        for path in long {
            let answer = reqwest::Client::new().delete(format!("{}{path}", server.url())).send().await?;
            answer.error_for_status()?;
        }
        table.value(&format!("hello beside {LONG} {what}"), &beside, "ms");
        let row = table.number(
            &format!("hello beside {LONG} {what}, p95 / idle p95"),
            beside.percentile(95) / idle.percentile(95),
            "×",
        );
        if held {
            row.at_most(MAX_RATIO);
        }
    }
    let mut crowd = Samples::default();
    for took in try_join_all((0..CALLERS).map(|_| timed(server.hello()))).await? {
        crowd.add(took.0);
    }
    table.value(&format!("{CALLERS} hellos at once"), &crowd, "ms");
    server.stop().await
}

async fn hellos(server: &Server, count: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        samples.add(timed(server.hello()).await?.0);
    }
    Ok(samples)
}

/// Starts long programs and gives their paths.
async fn start(server: &Server, code: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for _ in 0..LONG {
        let body = json!({"code": code, "config": {"timeout_seconds": LONG_SECONDS}});
        let url = format!("{}/api/v1/exec/async", server.url());
        let accepted: Value = reqwest::Client::new().post(url).json(&body).send().await?.json().await?;
        let id = accepted["execution_id"].as_str().ok_or("an answer without an id")?;
        paths.push(format!("/api/v1/executions/{id}"));
    }
    Ok(paths)
}
