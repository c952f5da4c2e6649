//! `kill -9` at each point that `execbox::failpoint` names, for each way to use a server. A few cases here; all of them in
//! `make chaos`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::ListImagesOptionsBuilder;
use futures::StreamExt as _;

use crate::crash::{self, Tally, Victim};
use crate::crash_work::{Kind, Work};
use crate::engine;

/// Pieces of work for each case.
const EACH: usize = 2;
/// What a server does in the background, it does within this time.
const BACKGROUND: Duration = Duration::from_millis(4_500);
/// Scenarios at once.
const AT_ONCE: usize = 3;

/// What happens around the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Only its start and its end.
    Idle,
    /// A new binary: its runner's volume has to be filled, and an old one goes.
    NewBinary,
    /// It starts on what a killed one left.
    Recovery,
    /// It is used in one way.
    Work(Kind),
}

impl Scenario {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Idle, Self::NewBinary, Self::Recovery].into_iter().chain(Kind::ALL.map(Self::Work))
    }
}

/// One folder on which servers live and die, and all the work that they ever had.
struct House {
    scenario: Scenario,
    folder: tempfile::TempDir,
    works: Vec<Work>,
    tally: Tally,
    starts: usize,
}

/// How often each point was passed.
type Trace = BTreeMap<String, u32>;

impl House {
    fn new(scenario: Scenario) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { scenario, folder, works: Vec::new(), tally: Tally::default(), starts: 0 }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn flags(&self, more: &[&str]) -> Vec<String> {
        let mut flags: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
        if self.scenario != Scenario::Work(Kind::Resized) {
            // What is made in the background passes points at any time.
            flags.extend(["--warm-max".into(), "0".into()]);
        }
        match self.scenario {
            Scenario::Work(Kind::Drained) => flags.extend(["--drain-seconds".into(), "1".into()]),
            Scenario::Work(Kind::Built) => {
                flags
                    .extend(["--images-dir".into(), self.folder.path().join("images").display().to_string()]);
            }
            Scenario::Work(Kind::Installed) => flags.extend(["--installs".into(), "code".into()]),
            _ => {}
        }
        flags
    }

    /// What must be there before the server that may die.
    async fn prepare(&mut self) -> PathBuf {
        self.starts += 1;
        match self.scenario {
            Scenario::NewBinary => {
                let docker = engine::engine().await;
                let name = format!("execbox-runner-crash-{}-{}", std::process::id(), self.starts);
                let labels = std::collections::HashMap::from([("execbox.app".to_owned(), "1".to_owned())]);
                let old =
                    VolumeCreateRequest { name: Some(name), labels: Some(labels), ..Default::default() };
                docker.create_volume(old).await.unwrap();
                self.leave_volume_behind().await;
                return self.new_binary();
            }
            Scenario::Recovery => self.leave_work_behind().await,
            Scenario::Work(Kind::Built) => self.new_image(),
            _ => {}
        }
        crash::binary()
    }

    /// As of a killed server whose container went without its workspace. Only ours removes it; any server's start may take
    /// the other volume away.
    async fn leave_volume_behind(&self) {
        let instance = self.data().join("instance");
        if !instance.exists() {
            self.clean().await.stop().await;
        }
        let instance = std::fs::read_to_string(instance).unwrap();
        let labels =
            [("execbox.app", "1"), ("execbox.container", "gone"), ("execbox.instance", instance.trim())];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
        let left = VolumeCreateRequest { labels: Some(labels), ..Default::default() };
        engine::engine().await.create_volume(left).await.unwrap();
    }

    /// Another hash, the same program: what follows an executable's sections is not read.
    fn new_binary(&self) -> PathBuf {
        let path = self.folder.path().join("execbox");
        std::fs::remove_file(&path).ok();
        std::fs::copy(crash::binary(), &path).unwrap();
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        let word = format!("{} {}", self.folder.path().display(), self.starts);
        std::io::Write::write_all(&mut file, word.as_bytes()).unwrap();
        path
    }

    fn new_image(&self) {
        let own = self.folder.path().join("images/crash");
        std::fs::create_dir_all(&own).unwrap();
        let label = format!("{}-{}", self.folder.path().display(), self.starts);
        std::fs::write(own.join("Dockerfile"), format!("FROM debian:trixie-slim\nLABEL for={label}\n"))
            .unwrap();
        let manifest = "name = \"crash\"\nversion = \"1\"\nextensions = [\"crash\"]\nrun = [\"/bin/sh\", \"{entrypoint}\"]\n";
        std::fs::write(own.join("runtime.toml"), manifest).unwrap();
    }

    fn new_work(&mut self, kinds: &[Kind]) -> Vec<Work> {
        let first = self.works.len();
        kinds.iter().enumerate().map(|(index, kind)| Work::new(*kind, first + index)).collect()
    }

    /// A server that is killed with work of every kind under way, and a caller that waits in vain.
    async fn leave_work_behind(&mut self) {
        let mut server = self.clean().await;
        let (client, address) = (reqwest::Client::new(), server.address.clone());
        let mut works = self.new_work(&Kind::PLAIN);
        let running = works.iter_mut().map(|work| work.run(&client, &address));
        drop(tokio::time::timeout(Duration::from_millis(700), futures::future::join_all(running)).await);
        self.works.extend(works);
        let mut late = self.new_work(&[Kind::Drained, Kind::Drained, Kind::Sync]);
        for work in &mut late {
            drop(tokio::time::timeout(Duration::from_millis(300), work.send(&client, &address)).await);
        }
        server.kill();
        self.works.extend(late);
    }

    async fn clean(&self) -> Victim {
        match crash::start(&crash::binary(), &self.data(), &self.flags(&[])).await {
            Ok(server) => server,
            Err(status) => panic!("{:?}: the next server does not start: {status}", self.scenario),
        }
    }

    /// Uses the server, which may die meanwhile.
    async fn use_it(&mut self, server: &Victim) {
        let Scenario::Work(kind) = self.scenario else { return };
        let client = reqwest::Client::new();
        if kind == Kind::Killed {
            let mut ahead = self.new_work(&[Kind::Drained; 2]);
            for work in &mut ahead {
                drop(work.send(&client, &server.address).await);
            }
            self.works.extend(ahead);
        }
        // A second SIGTERM would end it at once.
        let each = if kind == Kind::Drained { 1 } else { EACH };
        let mut works = self.new_work(&[kind; EACH][..each]);
        let address = &server.address;
        futures::future::join_all(works.iter_mut().map(|work| work.run(&client, address))).await;
        self.works.extend(works);
    }

    /// A server that may die at a point. True when it did.
    async fn live(&mut self, more: &[&str]) -> bool {
        let binary = self.prepare().await;
        let mut server = match crash::start(&binary, &self.data(), &self.flags(more)).await {
            Ok(server) => server,
            Err(status) => {
                assert!(crash::was_killed(status), "{:?}: it ended by itself: {status}", self.scenario);
                return true;
            }
        };
        self.use_it(&server).await;
        if let Some(status) = server.ended(BACKGROUND).await {
            return crash::was_killed(status);
        }
        nix::sys::signal::kill(server.address.pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = server.ended(Duration::from_secs(40)).await.expect("SIGTERM must end it");
        crash::was_killed(status)
    }

    /// The next server, and all that was promised.
    async fn settle(&mut self) {
        let mut server = self.clean().await;
        crash::settle(&mut self.works, &server.address, &mut self.tally).await;
        crash::nothing_left(&self.data(), &self.works, &mut self.tally).await;
        server.stop().await;
        crash::no_half_packages(&self.data(), &mut self.tally).await;
    }

    async fn trace(&mut self) -> Trace {
        let file = self.folder.path().join("trace");
        std::fs::remove_file(&file).ok();
        let died = self.live(&["--fail-trace", file.to_str().unwrap()]).await;
        assert!(!died, "{:?}: nothing was to end it", self.scenario);
        let mut trace = Trace::new();
        for point in std::fs::read_to_string(file).unwrap().lines() {
            *trace.entry(point.to_owned()).or_default() += 1;
        }
        trace
    }

    /// One server that ends at this point, then the check. False when it never got there.
    async fn dies_at(&mut self, point: &str, nth: u32) -> bool {
        let before = self.tally.violations.len();
        let died = self.live(&["--fail-at", &format!("{point}={nth}")]).await;
        self.settle().await;
        for violation in &self.tally.violations[before..] {
            eprintln!("VIOLATION at {point}={nth} of {:?}: {violation}", self.scenario);
        }
        died
    }

    async fn end(self) -> Tally {
        if self.scenario == Scenario::Work(Kind::Built) {
            remove_images().await;
        }
        if self.scenario == Scenario::Work(Kind::Installed) {
            crash::remove_packages(&self.data()).await;
        }
        self.tally
    }
}

async fn remove_images() {
    let filters = std::collections::HashMap::from([("reference", vec!["execbox/crash"])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    for image in engine::engine().await.list_images(Some(options)).await.unwrap() {
        for tag in image.repo_tags {
            engine::remove_image(&tag).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_point_is_passed_and_every_passed_point_is_named() {
    let scenarios: Vec<Scenario> = Scenario::all().collect();
    // Most of each is waiting for what a server does in the background.
    let traces: Vec<Trace> =
        futures::stream::iter(scenarios).map(trace_one).buffer_unordered(AT_ONCE).collect().await;
    let passed: BTreeSet<String> = traces.into_iter().flat_map(Trace::into_keys).collect();
    let named: BTreeSet<String> = execbox::failpoint::all().into_iter().collect();
    assert_eq!(passed.difference(&named).collect::<Vec<_>>(), [""; 0], "passed, and not named");
    assert_eq!(named.difference(&passed).collect::<Vec<_>>(), [""; 0], "named, and never passed");
}

async fn trace_one(scenario: Scenario) -> Trace {
    let mut house = House::new(scenario);
    let trace = house.trace().await;
    house.settle().await;
    assert_eq!(house.end().await.violations, [""; 0], "{scenario:?} without any crash");
    trace
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_at_some_points() {
    for (kind, points) in [
        (
            Kind::Keyed,
            &["store.accept.made", "store.accept.committed", "answer.async", "engine.start.after"][..],
        ),
        (Kind::Artifacts, &["artifact.written", "blob.renamed", "store.finish.committed"]),
        (Kind::Large, &["blob.synced", "store.discard.made"]),
        (Kind::Purged, &["store.purge.committed"]),
        (Kind::Sync, &["store.finish.made", "answer.sync"]),
        (Kind::OnDisk, &["engine.create.after", "engine.prepare workspace.after", "engine.remove.before"]),
        (
            Kind::Installed,
            &["engine.create network.after", "engine.create volume.after", "engine.remove network.before"],
        ),
    ] {
        let mut house = House::new(Scenario::Work(kind));
        for point in points {
            assert!(house.dies_at(point, 1).await, "{kind:?} must pass {point}");
        }
        assert_eq!(house.end().await.violations, [""; 0]);
    }
}

/// Every point of every scenario, at its first passage there and at one in the middle. Prints a table; false when a promise
/// was broken, or a point was never reached.
#[allow(dead_code, reason = "benches/chaos runs it")]
pub async fn sweep() -> bool {
    let began = Instant::now();
    let idle = &every_start().await;
    let scenarios: Vec<Scenario> = Scenario::all().collect();
    let swept = futures::stream::iter(scenarios).map(|scenario| sweep_one(scenario, idle, began));
    let swept: Vec<Swept> = swept.buffer_unordered(AT_ONCE).collect().await;
    println!("P1: kill -9 at every point, for every way to use a server, {:.0?}", began.elapsed());
    println!(
        "  {:<18} {:>6} {:>6} {:>6} {:>8} {:>8} {:>6}",
        "", "points", "kills", "missed", "acknowl.", "retried", "wrong"
    );
    let mut reached = BTreeSet::new();
    let mut fine = true;
    for Swept { scenario, cases, killed, tally } in &swept {
        let (kills, points) =
            (killed.len(), cases.iter().map(|(point, _)| point).collect::<BTreeSet<_>>().len());
        let missed = cases.len() - kills;
        let (wrong, name) = (tally.violations.len(), format!("{scenario:?}"));
        println!(
            "  {name:<18} {points:>6} {kills:>6} {missed:>6} {:>8} {:>8} {wrong:>6}",
            tally.acknowledged, tally.retried
        );
        reached.extend(killed.iter().map(|(point, _)| point.clone()));
        fine &= wrong == 0;
    }
    let named = execbox::failpoint::all();
    let never: Vec<_> = named.iter().filter(|point| !reached.contains(*point)).collect();
    println!("  {} of {} points ended a server; never: {never:?}", reached.len(), named.len());
    fine && never.is_empty()
}

/// What a server passes from its start to its end, whatever it finds. The first may have to fill its runner's volume, which
/// another server's start took away.
async fn every_start() -> Trace {
    let first = House::new(Scenario::Idle).trace().await;
    let second = House::new(Scenario::Idle).trace().await;
    let least = |(point, count): (String, u32)| {
        let other = *second.get(&point)?;
        Some((point, count.min(other)))
    };
    first.into_iter().filter_map(least).collect()
}

struct Swept {
    scenario: Scenario,
    cases: Vec<(String, u32)>,
    /// Those at which the server did end. What is timing, like the background's work, may be missed.
    killed: Vec<(String, u32)>,
    tally: Tally,
}

async fn sweep_one(scenario: Scenario, idle: &Trace, began: Instant) -> Swept {
    let mut house = House::new(scenario);
    let trace = house.trace().await;
    house.settle().await;
    let mut cases = Vec::new();
    for (point, count) in trace {
        // Starts are swept once; here only what the scenario adds.
        let before = if scenario == Scenario::Idle { 0 } else { idle.get(&point).copied().unwrap_or(0) };
        if count > before {
            let middle = before + (count - before).div_ceil(2);
            cases.push((point.clone(), before + 1));
            cases.extend((middle > before + 1).then_some((point, middle)));
        }
    }
    let mut killed = Vec::new();
    for (done, (point, nth)) in cases.iter().enumerate() {
        let died = house.dies_at(point, *nth).await;
        killed.extend(died.then(|| (point.clone(), *nth)));
        let how = if died { "" } else { " (not reached)" };
        eprintln!(
            "chaos: {scenario:?} {} of {}: {point}={nth}{how}, {:.0?}",
            done + 1,
            cases.len(),
            began.elapsed()
        );
    }
    Swept { scenario, cases, killed, tally: house.end().await }
}
