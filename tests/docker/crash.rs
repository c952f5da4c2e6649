//! A server that dies, the next one on its folder, and what must be true then.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::crash_work::{Address, Broken, Kind, Purge, Work};
use crate::engine;
use crate::server::EXECBOX;

/// How long a server may take to serve, to end, or to clean up behind another.
const PATIENCE: Duration = Duration::from_secs(60);
/// Executions that are asked for at once.
const AT_ONCE: usize = 8;
/// Attempts after which an execution is given up.
const MAX_ATTEMPTS: u64 = 3;

/// A server that may die at any time.
pub struct Victim {
    process: Child,
    pub address: Address,
    /// From its start to its first answer that it is ready.
    pub ready_after: Duration,
}

/// Starts it. Its exit status, when it ends before it serves.
pub async fn start(binary: &Path, data: &Path, flags: &[String]) -> Result<Victim, ExitStatus> {
    let began = Instant::now();
    let (process, url) = spawn(binary, data, flags);
    serving(process, url, data, began).await
}

/// Starts it and does not wait.
pub fn spawn(binary: &Path, data: &Path, flags: &[String]) -> (Child, mpsc::Receiver<String>) {
    let (process, stderr) = process(binary, data, flags);
    let (found, url) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if let Some(url) = url_in(&line) {
                found.send(url).ok();
            }
            eprintln!("server: {line}");
        }
    });
    (process, url)
}

/// Starts one whose log is read until it serves, and then closed.
pub fn spawn_silent(data: &Path) -> (Child, mpsc::Receiver<String>) {
    let (process, stderr) = process(&binary(), data, &[]);
    let (found, url) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = stderr.lines().map_while(Result::ok).skip_while(|line| url_in(line).is_none());
        let url = lines.next().and_then(|line| url_in(&line));
        lines.take_while(|line| !line.contains("/readyz")).for_each(drop);
        url.map(|url| found.send(url).ok())
    });
    (process, url)
}

fn url_in(line: &str) -> Option<String> {
    line.find("/api/v1/exec/sync ").map(|end| line[..end].trim().to_owned())
}

fn process(binary: &Path, data: &Path, flags: &[String]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut process = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--workers", "2", "--data-dir"])
        .arg(data)
        .args(flags)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(process.stderr.take().unwrap());
    (process, stderr)
}

/// Waits until it serves, or has ended.
pub async fn serving(
    mut process: Child,
    url: mpsc::Receiver<String>,
    data: &Path,
    began: Instant,
) -> Result<Victim, ExitStatus> {
    let waited = tokio::task::spawn_blocking(move || url.recv_timeout(PATIENCE));
    let Ok(url) = waited.await.unwrap() else { return Err(process.wait().unwrap()) };
    let instance = std::fs::read_to_string(data.join("instance")).unwrap();
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap());
    let address = Address { url, label: format!("execbox.instance={instance}"), pid };
    let ready = reqwest::get(format!("{}/readyz", address.url)).await;
    match ready {
        Ok(answer) => assert_eq!(answer.status(), 200, "it is announced, so it is ready"),
        Err(error) => return Err(ended(&mut process, &error).await),
    }
    Ok(Victim { process, address, ready_after: began.elapsed() })
}

/// The status of a process that broke a connection.
async fn ended(process: &mut Child, error: &reqwest::Error) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the server lives and does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Victim {
    /// Its exit status, once it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < within {
            if let Some(status) = self.process.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as an operator does.
    pub async fn stop(&mut self) {
        nix::sys::signal::kill(self.address.pid, Signal::SIGTERM).ok();
        let status = self.ended(PATIENCE).await.expect("SIGTERM must end it");
        assert!(status.success(), "{status}");
        engine::assert_gone(&self.address.label).await;
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Whether `kill -9` ended it, by itself or by us.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}

/// What became of all work.
#[derive(Debug, Default)]
pub struct Tally {
    pub acknowledged: usize,
    pub unanswered: usize,
    /// Ended as the server's failure after its last attempt, which is promised, too.
    pub given_up: usize,
    pub retried: usize,
    /// What was promised and is not so: lost, doubled, wrong, left.
    pub violations: Vec<String>,
}

impl Tally {
    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            eprintln!("VIOLATION: {what}");
            self.violations.push(what);
        }
    }
}

/// Until nothing waits or runs: what a killed server left may be many times what a caller's patience covers.
async fn idle(client: &reqwest::Client, server: &Address) {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let health = client.get(format!("{}/health", server.url)).send().await.unwrap();
        let health: Value = health.json().await.unwrap();
        let open = health["queued"].as_u64().unwrap() + health["running"].as_u64().unwrap();
        if open == 0 {
            return;
        }
        if open < least {
            (least, since) = (open, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "nothing ends any more: {health:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks the next server for everything, and for each result twice.
pub async fn settle(works: &mut [Work], server: &Address, tally: &mut Tally) {
    let client = reqwest::Client::new();
    idle(&client, server).await;
    let settled = futures::stream::iter(works).map(|work| settle_one(work, &client, server));
    let tallies: Vec<Tally> = settled.buffer_unordered(AT_ONCE).collect().await;
    for one in tallies {
        tally.acknowledged += one.acknowledged;
        tally.unanswered += one.unanswered;
        tally.given_up += one.given_up;
        tally.retried += one.retried;
        tally.violations.extend(one.violations);
    }
}

async fn settle_one(work: &mut Work, client: &reqwest::Client, server: &Address) -> Tally {
    let mut tally = Tally::default();
    if work.purge == Purge::Answered {
        let found = work.wait(client, server).await.expect("this server lives");
        tally.must(found.is_none(), || format!("{} is back after its purge", work.word()));
        return tally;
    }
    if work.seen.is_none() {
        match work.id {
            Some(_) => tally.acknowledged = 1,
            None => tally.unanswered = 1,
        }
    }
    if matches!(work.kind, Kind::Keyed | Kind::Sync) {
        // The caller does not know whether it arrived, and sends it again.
        work.send(client, server).await.expect("this server lives");
    }
    if work.id.is_some() {
        check(work, client, server, &mut tally).await.expect("this server lives");
    }
    tally
}

async fn check(
    work: &mut Work,
    client: &reqwest::Client,
    server: &Address,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let word = work.word();
    let Some(result) = work.wait(client, server).await? else {
        tally.must(work.purge == Purge::Asked, || format!("{word} is lost"));
        return Ok(());
    };
    let again = work.wait(client, server).await?;
    tally.must(again.as_ref() == Some(&result), || format!("{word} has two results: {result:#} {again:#?}"));
    if let Some(before) = work.seen.as_ref().or(work.answered.as_ref()) {
        tally.must(*before == result, || format!("{word} has changed: {before:#} {result:#}"));
    }
    if work.seen.is_none() {
        ended_rightly(work, &result, client, server, tally).await?;
    }
    work.seen = Some(result);
    Ok(())
}

async fn ended_rightly(
    work: &Work,
    result: &Value,
    client: &reqwest::Client,
    server: &Address,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let word = work.word();
    let attempt = result["attempt"].as_u64().unwrap();
    tally.retried += usize::from(attempt > 1);
    tally.must((1..=MAX_ATTEMPTS).contains(&attempt), || format!("{word} had attempt {attempt}: {result:#}"));
    let status = result["status"].as_str().unwrap_or_default();
    if let Some(told) = &work.killed {
        tally.must(told == status, || format!("{word} was {told}, and is {result:#}"));
    }
    match (status, result["reason"].as_str().unwrap_or_default()) {
        ("killed", "killed") if work.kill_asked => return Ok(()),
        ("failed", "internal") if attempt == MAX_ATTEMPTS => {
            tally.given_up += 1;
            return Ok(());
        }
        ("completed", "exited") => {}
        _ => tally.must(false, || format!("{word} has a wrong end: {result:#}")),
    }
    let whole = result["exit_code"] == 0 && result["stdout"] == work.stdout();
    tally.must(whole, || format!("{word} has wrong bytes: {}", short(result)));
    let named = result["artifacts"].as_array().map_or(0, Vec::len);
    let artifacts = work.artifacts();
    tally.must(named == artifacts.len(), || format!("{word} has {named} artifacts: {}", short(result)));
    for (name, content) in artifacts {
        let got = work.artifact(client, server, name).await?;
        tally.must(got == content, || format!("{word}: the artifact {name} has {} wrong bytes", got.len()));
    }
    Ok(())
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(1_000).collect()
}

/// What the folder of a server that is idle must look like; it may take a moment.
pub async fn nothing_left(data: &Path, works: &[Work], tally: &mut Tally) {
    let began = Instant::now();
    loop {
        let left = left(data);
        if left.is_empty() {
            break;
        }
        if began.elapsed() > Duration::from_secs(15) {
            tally.must(false, || format!("left in the folder: {left:?}"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let database = database(data);
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    tally.must(verdict == "ok", || format!("the database: {verdict}"));
    for work in works.iter().filter(|work| matches!(work.kind, Kind::Keyed | Kind::Sync)) {
        let count = "SELECT count(*) FROM executions WHERE request LIKE ?1 AND (detached = 1 OR attempt < ?2) \
                     AND result NOT LIKE '%\"status\":\"killed\"%'";
        let word = format!("%\"{}\"%", work.word());
        let rows: i64 = database.query_row(count, rusqlite::params![word, 99], |row| row.get(0)).unwrap();
        tally.must(rows <= 1, || format!("{} ran {rows} times under one key", work.word()));
    }
}

fn instance(data: &Path) -> String {
    std::fs::read_to_string(data.join("instance")).unwrap().trim().to_owned()
}

/// Volumes with packages that nothing marks as whole, and networks of installs.
pub async fn no_half_packages(data: &Path, tally: &mut Tally) {
    let instance = instance(data);
    let volumes = engine::volumes(&format!("execbox.dependencies={instance}")).await;
    let half = |name: &&String| !name.ends_with("-whole") && !volumes.contains(&format!("{name}-whole"));
    let half: Vec<_> = volumes.iter().filter(half).collect();
    tally.must(half.is_empty(), || format!("packages that are half installed: {half:?}"));
    let networks = engine::networks(&format!("execbox.instance={instance}")).await;
    tally.must(networks.is_empty(), || format!("networks of installs: {networks:?}"));
}

/// They outlive servers.
pub async fn remove_packages(data: &Path) {
    engine::remove_packages(&format!("execbox.dependencies={}", instance(data))).await;
}

fn database(data: &Path) -> Connection {
    Connection::open_with_flags(data.join("execbox.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// What should not be there: scratch of any kind, executions without an end, files without a record, and the reverse.
fn left(data: &Path) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for folder in ["spool", "scratch", "trash"] {
        left.extend(files(&data.join(folder)).iter().map(|file| file.display().to_string()));
    }
    let database = database(data);
    let open: i64 =
        database.query_row("SELECT count(*) FROM executions WHERE state < 2", [], |row| row.get(0)).unwrap();
    if open > 0 {
        left.push(format!("{open} executions without an end"));
    }
    let mut select = database.prepare("SELECT DISTINCT lower(hex(sha256)) FROM execution_blobs").unwrap();
    let named = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let named: BTreeSet<String> = named.map(Result::unwrap).collect();
    let blobs = data.join("blobs");
    let there: BTreeMap<String, PathBuf> = files(&blobs)
        .into_iter()
        .map(|path| {
            let own = path.strip_prefix(&blobs).unwrap().to_str().unwrap().replace('/', "");
            (own, path)
        })
        .collect();
    left.extend(
        there.keys().filter(|hash| !named.contains(*hash)).map(|hash| format!("{hash} without a record")),
    );
    left.extend(
        named.iter().filter(|hash| !there.contains_key(*hash)).map(|hash| format!("a record without {hash}")),
    );
    for (hash, path) in &there {
        // It may have gone since it was listed.
        let Ok(content) = std::fs::read(path) else { continue };
        if execbox::store::ContentHash::of(&content).to_string() != *hash {
            left.push(format!("{hash} with other bytes"));
        }
    }
    left
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                // An execution's folder in scratch, empty or not, is as much left as a file.
                if folder.ends_with("scratch") {
                    found.push(path.clone());
                }
                found.extend(files(&path));
            }
            _ => found.push(path),
        }
    }
    found
}

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(EXECBOX)
}
