//! `kill -9` at random times, in the middle of mixed load and of the recovery from the kill before. 50 here, 500 in
//! `make chaos`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::crash::{self, Tally, Victim};
use crate::crash_work::{Address, Kind, Work};

/// Kills under `make test`.
const KILLS: usize = 50;
/// Callers at once.
const CALLERS: usize = 4;
/// The longest that a server lives once it serves.
const LIFE: Duration = Duration::from_millis(700);
/// Every third server is killed before it serves, within this time.
const START: Duration = Duration::from_millis(800);
/// Work that has begun and not ended, after which callers wait: else the queue only grows.
const BACKLOG: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_fifty_random_kills() {
    assert!(random_kills(KILLS).await, "see VIOLATION above");
}

/// Where the server is that lives now, if one does.
type Current = watch::Sender<Option<Address>>;

/// Prints a table; false when a promise was broken.
pub async fn random_kills(kills: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let began = Instant::now();
    let current = Arc::new(Current::new(None));
    let works = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(call(caller, Arc::clone(&current), Arc::clone(&works))))
        .collect();
    let mut starts = Starts::default();
    for kill in 1..=kills {
        one_life(&data, kill, &current, &mut starts).await;
        if kill % 25 == 0 {
            let sent = works.lock().unwrap().len();
            eprintln!("chaos: {kill} of {kills} kills, {sent} executions, {:.0?}", began.elapsed());
        }
    }
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    for caller in callers {
        drop(caller.await);
    }
    let mut works = std::mem::take(&mut *works.lock().unwrap());
    let mut tally = Tally::default();
    // The last server ends everything; one more reads it all again.
    for _ in 0..2 {
        let mut server = alive(&data).await;
        starts.ready.push(server.ready_after);
        crash::settle(&mut works, &server.address, &mut tally).await;
        crash::nothing_left(&data, &works, &mut tally).await;
        server.stop().await;
    }
    report(kills, &starts, &tally, began.elapsed());
    tally.violations.is_empty()
}

#[derive(Default)]
struct Starts {
    ready: Vec<Duration>,
    killed_before_ready: usize,
}

async fn alive(data: &Path) -> Victim {
    match crash::start(&crash::binary(), data, &[]).await {
        Ok(server) => server,
        Err(status) => panic!("the server does not start after a kill: {status}"),
    }
}

/// A server from its start to its kill.
async fn one_life(data: &Path, kill: usize, current: &Current, starts: &mut Starts) {
    if kill.is_multiple_of(3) {
        let (mut process, url) = crash::spawn(&crash::binary(), data, &[]);
        tokio::time::sleep(at_most(START)).await;
        process.kill().unwrap();
        let status = process.wait().unwrap();
        assert!(crash::was_killed(status), "the server ended by itself: {status}");
        starts.killed_before_ready += usize::from(url.try_recv().is_err());
        return;
    }
    let mut server = alive(data).await;
    starts.ready.push(server.ready_after);
    current.send_replace(Some(server.address.clone()));
    let died = server.ended(at_most(LIFE)).await;
    assert!(died.is_none(), "the server ended by itself: {died:?}");
    current.send_replace(None);
    server.kill();
}

/// Sends one piece of work after another to whichever server lives.
async fn call(caller: usize, current: Arc<Current>, works: Arc<Mutex<Vec<Work>>>) {
    let client = reqwest::Client::new();
    let mut servers = current.subscribe();
    let mut waiting: Vec<Work> = Vec::new();
    let mut count = 0;
    loop {
        let address = servers.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let outcome = if waiting.len() >= BACKLOG / CALLERS {
            let ended = waiting[0].wait(&client, &address).await;
            ended.map(|_| drop(waiting.remove(0)))
        } else {
            let number = count * CALLERS + caller;
            count += 1;
            let mut work = Work::new(Kind::PLAIN[(number / 3) % Kind::PLAIN.len()], number);
            // A part of it is only sent, so that something always waits and runs.
            let sent_only = number % 3 == 1 && work.kind != Kind::Purged;
            let outcome = if sent_only {
                work.send(&client, &address).await
            } else {
                work.run(&client, &address).await
            };
            works.lock().unwrap().push(work.clone());
            if work.id.is_some() && (sent_only || outcome.is_err()) {
                waiting.push(work);
            }
            outcome
        };
        if outcome.is_err() {
            // This server is dead, or about to be told so.
            drop(tokio::time::timeout(Duration::from_secs(2), servers.changed()).await);
        }
    }
}

fn at_most(limit: Duration) -> Duration {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    let micros = u64::try_from(limit.as_micros()).unwrap();
    Duration::from_micros(u64::from_le_bytes(random) % micros)
}

fn report(kills: usize, starts: &Starts, tally: &Tally, took: Duration) {
    let mut ready = starts.ready.clone();
    ready.sort_unstable();
    let (median, longest) = (ready[ready.len() / 2], ready[ready.len() - 1]);
    println!("P1, H01, H02: random kill -9 under mixed load, {took:.0?}");
    for (name, figure) in [
        ("kills", kills.to_string()),
        ("  of them before it served", starts.killed_before_ready.to_string()),
        ("acknowledged executions", tally.acknowledged.to_string()),
        ("  run again after a kill", tally.retried.to_string()),
        ("  given up after 3 attempts", tally.given_up.to_string()),
        ("never answered", tally.unanswered.to_string()),
        ("start to ready, median", format!("{median:.2?}")),
        ("start to ready, longest", format!("{longest:.2?}")),
        ("lost, doubled, wrong, left", tally.violations.len().to_string()),
    ] {
        println!("  {name:<30} {figure:>10}");
    }
}
