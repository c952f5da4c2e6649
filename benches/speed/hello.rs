//! A hello through the server and around it: one caller, many callers, and what the server adds to a program in C.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bare::RootFs;
use crate::client::{self, Client};
use crate::contender::{Contender, timed};
use crate::cpu::settle;
use crate::engine_cycle::EngineCycle;
use crate::rates::{self, CALLERS, MANY, Rate};
use crate::report::Report;
use crate::samples::Samples;
use crate::server::Server;
use crate::settings::{Limit, SETTINGS, Setting};
use crate::turns::{self, Turn};
use crate::{Groups, Result, bubblewrap, living, peer};

/// Between two calls of somebody who reads the answers, while the pool of warm containers fills again.
const PACE: Duration = Duration::from_millis(250);
/// Where nobody waits.
const AT_ONCE: Duration = Duration::ZERO;
/// Hellos in C.
const IN_C: usize = 30;
const C: &str = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n";

/// Names of what is compared with.
const BARE: &str = "bare interpreter";
const RAW: &str = "raw Engine cycle";

/// The servers are up all the time, so that their turns can be taken among those of the others.
pub(crate) async fn measure(
    engine: &Arc<EngineCycle>,
    image: &str,
    groups: &Groups,
    report: &mut Report,
) -> Result<()> {
    eprintln!("bench: the root file system of {image}");
    let root = RootFs::export(engine.docker(), image).await?;
    let container = living::start(engine).await?;
    let mut servers = Vec::new();
    for setting in &SETTINGS {
        servers.push((setting, setting.start(&[]).await?));
    }
    let measured = async {
        let others = [
            Contender::new(BARE, |_| root.caller()),
            Contender::new(RAW, |slot| Ok(engine.caller(slot))),
            Contender::new("exec into a living container", |_| Ok(living::caller(engine, &container))),
            Contender::new("bwrap", |_| bubblewrap::caller(root.path())),
            Contender::new("llm-sandbox, pooled", |_| peer::caller(engine, image)),
        ];
        // Threads of this program call; those of its runtime serve the Engine's client.
        tokio::task::block_in_place(|| {
            if groups.wants("latency") {
                one_caller(&others, &servers, report)?;
            }
            if groups.wants("throughput") {
                many_callers(&others, &servers, report)?;
            }
            Ok::<_, crate::Error>(())
        })?;
        if groups.wants("c") {
            in_c(&servers, report).await?;
        }
        Ok(())
    };
    let measured: Result<()> = measured.await;
    for (_, server) in servers {
        server.stop().await?;
    }
    measured
}

fn contender<'a>(setting: &'a Setting, server: &'a Server) -> Contender<'a> {
    let make = |_| {
        let (url, request) = (server.url().to_owned(), client::hello());
        // Not before its first turn: a connection without a request is closed soon.
        let mut connected = None;
        Ok(timed(move || {
            let client = match &mut connected {
                Some(client) => client,
                none => none.insert(Client::connect(&url)?),
            };
            client.hello(&request)
        }))
    };
    Contender::new(setting.name, make).of_server(server.pid())
}

fn one_caller(others: &[Contender<'_>], servers: &[(&Setting, Server)], report: &mut Report) -> Result<()> {
    let mut turns = Vec::new();
    for (other, count) in others.iter().zip([20, 6, 6, 10, 4]) {
        turns.push(Turn::new(other, other.name, count, AT_ONCE)?);
    }
    let mut held = Vec::new();
    for (setting, server) in servers {
        let contender = contender(setting, server);
        held.push(turns.len());
        // Where each execution has a new container, call after call measures how fast the Engine makes them.
        if setting.bounds.limit == Limit::Engine {
            let name = format!("execbox, {}, a call every {PACE:?}", setting.name);
            turns.push(Turn::new(&contender, &name, 20, PACE)?);
        }
        let name = format!("execbox, {}, call after call", setting.name);
        turns.push(Turn::new(&contender, &name, 20, AT_ONCE)?);
    }
    turns::take(&mut turns)?;
    let bare = turns[0].samples.median();
    for ((setting, _), at) in servers.iter().zip(held) {
        let [p50, _, p99] = turns[at].samples.percentiles();
        let name = |what: &str| format!("{}: {what}", setting.name);
        report
            .figure(&name("sync hello p50 / bare interpreter p50"), p50 / bare, "×")
            .at_most(setting.bounds.hello);
        report.figure(&name("sync hello p99 / p50"), p99 / p50, "×").at_most(setting.bounds.tail);
    }
    report.one_caller(&turns);
    Ok(())
}

fn many_callers(others: &[Contender<'_>], servers: &[(&Setting, Server)], report: &mut Report) -> Result<()> {
    let processors = u32::try_from(std::thread::available_parallelism()?.get())?;
    let mut numbers = [vec![1, processors], vec![1, 2, 4, MANY], vec![1, MANY], vec![1, MANY], vec![1, MANY]];
    numbers[0].dedup();
    let mut rates = Vec::new();
    for (other, numbers) in others.iter().zip(&numbers) {
        rates.push(Rate::new(other, numbers)?);
    }
    for (setting, server) in servers {
        rates.push(Rate::new(&contender(setting, server), &CALLERS)?);
    }
    rates::take(&mut rates)?;
    let (bare, raw) = (rates[0].best(), rates[1].best());
    for ((setting, _), rate) in servers.iter().zip(&rates[others.len()..]) {
        let many = rate.of(MANY).map_or(0.0, |window| window.per_second);
        let (limit, name) = match setting.bounds.limit {
            Limit::Engine => (raw, "the raw Engine cycle's best"),
            Limit::Processors => (bare, "bare interpreters on all processors"),
        };
        let name = format!("{}: hellos per second, {MANY} callers / {name}", setting.name);
        report.figure(&name, many / limit, "×").at_least(setting.bounds.throughput);
    }
    report.many_callers(&rates);
    Ok(())
}

/// Wall time that is neither the compiler's nor the program's.
async fn in_c(servers: &[(&Setting, Server)], report: &mut Report) -> Result<()> {
    let body = json!({"language": "c", "code": C});
    let mut added: Vec<_> = servers.iter().map(|_| Samples::default()).collect();
    for round in 0..=IN_C {
        for ((_, server), added) in servers.iter().zip(&mut added) {
            // The other server makes a container again for each that it used.
            tokio::task::block_in_place(settle)?;
            tokio::time::sleep(PACE).await;
            let began = Instant::now();
            let result = server.eval(&body).await?;
            let wall = began.elapsed();
            if result["stdout"] != "hello\n" {
                return Err(format!("no hello in C: {result}").into());
            }
            let part = |name: &str| result["timings"][name].as_f64().unwrap_or(0.0);
            if round > 0 {
                added.add_ms(wall.as_secs_f64() * 1_000.0 - part("compile_ms") - part("run_ms"));
            }
        }
    }
    for ((setting, _), added) in servers.iter().zip(&added) {
        let name = format!("{}: what the server adds to a hello in C", setting.name);
        report.figures.value(&name, added, "ms").at_most(setting.bounds.added_ms);
    }
    Ok(())
}
