//! What readers cost that take their time: an answer holds a piece of memory and one file, whatever its length.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::fake_sandbox::LARGE_RESULT;
use crate::test_app::{TestApp, fake};

/// What a caller's socket holds of an answer.
const SMALL_BUFFER: u32 = 4 << 10;
/// Readers at once, ...
const READERS: usize = 40;
/// ... and how much each of them reads. Copies of it are 320 MiB.
const MEBIBYTES: u64 = 8;
/// What all of the readers may add, in bytes.
const MAX_ADDED: u64 = 100 << 20;
/// In an archive of all artifacts.
const FILES: usize = 200;

async fn app() -> TestApp {
    TestApp::with(|config| config.limits.output_kb = MEBIBYTES << 10).await
}

/// A connection on which the head of the answer has come.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

/// The resident set of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Files in this folder that this process has open.
fn open_files(folder: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    open.filter(|target| target.starts_with(folder)).count()
}

fn files_under(folder: &Path) -> usize {
    let folders = std::fs::read_dir(folder).unwrap();
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

#[track_caller]
fn assert_small(before: u64, what: &str) {
    let added = resident().saturating_sub(before);
    assert!(added < MAX_ADDED, "{READERS} readers of {what} hold {} MiB", added >> 20);
}

#[tokio::test]
async fn readers_of_a_finished_result_hold_no_copies_of_it() {
    let app = app().await;
    let path = app.submit(&format!("print {MEBIBYTES}")).await;
    let path = format!("{path}?wait=10");
    drop(ask(app.address, "GET", &path, "").await);
    let before = resident();
    let readers = join_all((0..READERS).map(|_| ask(app.address, "GET", &path, ""))).await;
    assert_small(before, "a finished result");
    let open = open_files(&app.data().join("blobs"));
    assert!(open <= READERS, "{open} files are open");
    drop(readers);
    assert_eq!(app.get(&path).await.assert_ok()["stdout"].as_str().unwrap().len() as u64, MEBIBYTES << 20);
    app.finish().await;
}

/// It is in the record, at most a mebibyte, which each of them has read.
#[tokio::test]
async fn readers_of_what_a_program_handed_back_hold_little_more_than_that() {
    let app = app().await;
    let path = app.submit("large_result").await;
    let path = format!("{path}?wait=10");
    drop(ask(app.address, "GET", &path, "").await);
    let before = resident();
    let readers = join_all((0..READERS).map(|_| ask(app.address, "GET", &path, ""))).await;
    assert_small(before, "a large result");
    drop(readers);
    assert_eq!(app.get(&path).await.assert_ok()["results"]["k"].as_str().unwrap().len(), LARGE_RESULT);
    app.finish().await;
}

#[tokio::test]
async fn readers_of_a_running_program_hold_no_copies_of_its_output() {
    let app = app().await;
    let path = app.submit(&format!("print_and_hang {MEBIBYTES}")).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while app.get(&path).await.body["stdout"].as_str().map_or(0, str::len) as u64 != MEBIBYTES << 20 {
        assert!(Instant::now() < deadline, "it never prints all of it");
    }
    let before = resident();
    let readers = join_all((0..READERS).map(|_| ask(app.address, "GET", &path, ""))).await;
    assert_small(before, "a running program");
    assert_eq!(open_files(&app.data().join("spool")), 1, "one file for all of them");
    drop(readers);
    app.delete(&path).await;
    app.finish().await;
}

#[tokio::test]
async fn callers_that_do_not_read_their_sync_answer_hold_no_memory() {
    let app = app().await;
    let body = fake(&format!("print {MEBIBYTES}")).to_string();
    drop(ask(app.address, "POST", "/api/v1/exec/sync", &body).await);
    let before = resident();
    let callers = join_all((0..READERS).map(|_| ask(app.address, "POST", "/api/v1/exec/sync", &body))).await;
    assert_small(before, "their own results");
    drop(callers);
    app.finish().await;
}

#[tokio::test]
async fn a_reader_of_all_artifacts_has_one_of_them_open() {
    let app = app().await;
    let path = app.submit(&format!("many_artifacts {FILES}")).await;
    app.until(&path, "completed").await;
    let path = format!("{path}/artifacts.tar");
    let readers = join_all((0..3).map(|_| ask(app.address, "GET", &path, ""))).await;
    let open = open_files(&app.data().join("blobs"));
    assert!(open <= readers.len(), "{open} files are open");
    drop(readers);
    app.finish().await;
}

#[tokio::test]
async fn e10_whoever_reads_all_artifacts_gets_them_although_they_are_purged() {
    let app = app().await;
    let path = app.submit(&format!("many_artifacts {FILES}")).await;
    app.until(&path, "completed").await;
    // More than the sockets hold, so most of it is still to be read when it is purged.
    let answer = app.client.get(app.url(&format!("{path}/artifacts.tar"))).send().await.unwrap();
    app.delete(&format!("{path}?purge=true")).await.assert_ok();
    app.get(&format!("{path}/artifacts.tar")).await.assert_problem(404, "not_found");
    let archive = answer.bytes().await.unwrap();
    let mut read = 0_i32;
    for file in tar::Archive::new(&*archive).entries().unwrap() {
        let (mut file, mut content) = (file.unwrap(), Vec::new());
        file.read_to_end(&mut content).unwrap();
        assert!(content == read.to_be_bytes().repeat(16 << 10), "file {read} is not what was written");
        read += 1;
    }
    assert_eq!(usize::try_from(read), Ok(FILES));
    let blobs = app.data().join("blobs");
    let deadline = Instant::now() + Duration::from_secs(10);
    while files_under(&blobs) > 0 {
        assert!(Instant::now() < deadline, "{} files are left of what was purged", files_under(&blobs));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.finish().await;
}
