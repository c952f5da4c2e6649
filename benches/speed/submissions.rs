//! Async submissions while nothing of them can run yet: how many are accepted each second, each on the disk before its
//! answer, and what the server occupies once they all wait.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::contender::{Operation, timed};
use crate::cpu::Cpu;
use crate::report::Report;
use crate::resident::resident;
use crate::samples::Samples;
use crate::server::Server;
use crate::settings::{SETTINGS, Setting};
use crate::table::float;
use crate::{Result, archive};

const PATH: &str = "/api/v1/exec/async";
const CALLERS: u32 = 8;
/// Of each caller, in all.
const EACH: u32 = 1_250;
/// Of each caller, before the time counts.
const WARM_UP: u32 = 125;
/// Accepted each second, at least.
const MIN_PER_SECOND: f64 = 1_500.0;
/// Resident set with all of them waiting, in MB.
const MAX_WAITING_MB: f64 = 120.0;
/// Digits of the program that differ from one to the next, so that no two archives are one.
const DIGITS: &str = "0000000000000000";
/// Keeps a worker.
const SLEEP: &str = "import time; time.sleep(3000)";
/// Flags: room for all, two workers to keep, and an end that waits for nobody.
const FLAGS: [&str; 8] =
    ["--queue-length", "20000", "--tenant-queue-length", "20000", "--workers", "2", "--drain-seconds", "0"];
/// The time until both workers are kept.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    let synced = synced_writes()?;
    report.facts.value("4 KiB written and synced to the data folder's disk", &synced, "ms");
    for setting in &SETTINGS {
        eprintln!("bench: async submissions, {}", setting.name);
        let server = setting.start(&FLAGS).await?;
        let measured = one(setting, &server, report).await;
        server.stop().await?;
        measured?;
    }
    Ok(())
}

async fn one(setting: &Setting, server: &Server, report: &mut Report) -> Result<()> {
    keep_workers(server).await?;
    let name = |what: &str| format!("{}: {what}", setting.name);
    let found = tokio::task::block_in_place(|| {
        let mut callers = (0..CALLERS).map(|caller| submitter(server, caller)).collect::<Result<Vec<_>>>()?;
        submit(&mut callers, WARM_UP)?;
        let (began, before) = (Instant::now(), Cpu::now(Some(server.pid()))?);
        let latency = submit(&mut callers, EACH - WARM_UP)?;
        Ok::<_, crate::Error>((latency, began.elapsed(), Cpu::now(Some(server.pid()))?.since(before)))
    });
    let (latency, took, cpu) = found?;
    let count = float(latency.count() as u64);
    let rate = count / took.as_secs_f64();
    report
        .figure(&name("durable async submissions per second, 8 callers"), rate, "/s")
        .at_least(MIN_PER_SECOND);
    let waiting = resident(server.pid(), "VmRSS")?;
    report.figure(&name("server RSS, 10,000 executions wait"), waiting, "MB").at_most(MAX_WAITING_MB);
    report.facts.value(&name("async submission, 8 callers"), &latency, "ms");
    report.facts.number(&name("  CPU of all for each"), cpu.machine * 1_000.0 / count, "ms");
    report.facts.number(&name("  of the server"), cpu.server * 1_000.0 / count, "ms");
    report.facts.number(&name("  of the callers"), cpu.callers * 1_000.0 / count, "ms");
    Ok(())
}

/// All callers at once, so many times each.
fn submit(callers: &mut [Operation], each: u32) -> Result<Samples> {
    std::thread::scope(|scope| {
        let call = |operation: &mut Operation| {
            let mut samples = Samples::default();
            for _ in 0..each {
                samples.add(operation()?);
            }
            Ok::<_, crate::Error>(samples)
        };
        let threads: Vec<_> =
            callers.iter_mut().map(|operation| scope.spawn(move || call(operation))).collect();
        let mut all = Samples::default();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a caller panicked")??);
        }
        Ok(all)
    })
}

/// Sends a small archive, another one each time.
fn submitter(server: &Server, caller: u32) -> Result<Operation> {
    let mut client = Client::connect(server.url())?;
    let tar = archive::small(&format!("print('hello')  # {DIGITS}\n"))?;
    let mut request = archive::request(PATH, &tar);
    let at = request.windows(DIGITS.len()).position(|window| window == DIGITS.as_bytes());
    let at = at.ok_or("an archive without its digits")?;
    let mut number = u64::from(caller) << 32;
    Ok(timed(move || {
        number += 1;
        request[at..at + DIGITS.len()].copy_from_slice(format!("{number:016}").as_bytes());
        client.send(&request)?;
        client.receive("202").map(drop)
    }))
}

/// Gives every worker something that lasts.
async fn keep_workers(server: &Server) -> Result<()> {
    let mut last = Value::Null;
    for _ in 0..2 {
        last = server.submit(&json!({"language": "python", "code": SLEEP})).await?;
    }
    let began = Instant::now();
    while server.state(&last).await?["status"] != "running" {
        if began.elapsed() > PATIENCE {
            return Err("the workers have not begun".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// What the disk asks for one commit, whoever makes it.
fn synced_writes() -> Result<Samples> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut samples = Samples::default();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[1; 4_096])?;
        file.sync_data()?;
        samples.add(began.elapsed());
    }
    Ok(samples)
}
