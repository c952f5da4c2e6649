//! Projects and artifacts far larger than the server's memory: they pass through it, whether the workspace is in memory
//! or on the Engine's disk. `make figures` does it with 2 GiB and 100,000 files.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::figures::count;
use crate::server::Server;

const MIB: usize = 1 << 20;
/// What the server may take on top of what it had.
const MOST_MORE_KIB: u64 = 16 << 10;
/// Room for all that is asked of it here, and a ceiling for archives that lets it through.
const FLAGS: [&str; 14] = [
    "--archive-mb",
    "4096",
    "--archive-entries",
    "200000",
    "--disk-inodes",
    "200000",
    "--max-disk-mb",
    "8192",
    "--artifact-mb",
    "2048",
    "--artifact-count",
    "100000",
    "--keep-mb",
    "8192",
];

/// The size of the large file, and the number of the small ones of 4 KiB.
fn sizes() -> (usize, usize) {
    (count(200, 1_600) * MIB, count(20_000, 100_000))
}

fn header(path: &str, size: usize) -> Bytes {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

/// Zeros up to whole blocks.
fn padded(content: &[u8]) -> Bytes {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    Bytes::from(content)
}

/// An archive that is made while it is sent: a program, many small files in folders of a thousand, and one large file.
fn archive(program: &str, large: usize, small: usize) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let piece = Bytes::from(vec![7; MIB]);
    let first = [header("main.sh", program.len()), padded(program.as_bytes())];
    let content = Bytes::from(vec![8; 4_096]);
    let files = (0..small).flat_map(move |number| {
        [header(&format!("d{}/file{number}.txt", number / 1_000), 4_096), content.clone()]
    });
    let last = std::iter::once(header("large.bin", large))
        .chain(std::iter::repeat_n(piece, large / MIB))
        .chain([Bytes::from(vec![0; 1_024])]);
    stream::iter(first.into_iter().chain(files).chain(last).map(Ok))
}

async fn send(
    server: &Server,
    tar: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    config: Value,
) -> Value {
    let metadata = json!({"language": "bash", "config": config});
    let part = Part::stream(reqwest::Body::wrap_stream(tar));
    let form = Form::new().text("metadata", metadata.to_string()).part("tar", part);
    let url = format!("{}/api/v1/exec/sync", server.url);
    let answer = server.client.post(url).multipart(form).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A line of /proc/PID/status, in KiB.
fn memory(server: &Server, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The server's memory while something is done.
struct Growth {
    idle: u64,
}

impl Growth {
    /// From now on.
    fn of(server: &Server) -> Self {
        std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
        Self { idle: memory(server, "VmRSS") }
    }

    /// `listed`: files that the result lists, which is in memory while it is recorded and answered.
    fn hold(&self, server: &Server, what: &str, listed: usize, took: Duration) {
        let peak = memory(server, "VmHWM");
        let more = peak.saturating_sub(self.idle);
        println!("BIG {what:<44} {took:>7.1?}, server {} MiB + {} MiB", self.idle >> 10, more >> 10);
        assert!(more <= MOST_MORE_KIB + listed as u64, "{what}: from {} to {peak} KiB", self.idle);
    }
}

async fn warm(server: &Server) {
    let result = send(server, archive("echo up\n", MIB, 100), json!({"disk_mb": 64})).await;
    assert_eq!(result["stdout"], "up\n", "{result:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_any_size_passes_through_the_server() {
    let server = Server::start_with(&[&FLAGS[..], &["--memory-disk-mb", "2048"]].concat()).await;
    warm(&server).await;
    let (large, small) = sizes();
    let program =
        "find . -type f -name 'file*' | wc -l; cat large.bin | wc -c; find . -name 'file*' -size 8 | wc -l\n";
    for (place, disk_mb) in [("in memory", 2_048), ("on disk", 4_096)] {
        let growth = Growth::of(&server);
        let began = Instant::now();
        let config = json!({"disk_mb": disk_mb, "memory_mb": 256});
        let result = send(&server, archive(program, large, small), config).await;
        let expected = format!("{small}\n{large}\n{small}\n");
        assert_eq!(result["stdout"], expected, "{place}: {result:#}");
        let what = format!("{} MiB and {small} files in, {place}", large / MIB + small / 256);
        growth.hold(&server, &what, 0, began.elapsed());
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_any_size_pass_through_the_server() {
    let server = Server::start_with(&[&FLAGS[..], &["--memory-disk-mb", "2048"]].concat()).await;
    warm(&server).await;
    let (large, small) = (count(200, 1_024) * MIB, count(2_000, 20_000));
    let one = format!("head -c {large} /dev/zero > large.bin\n");
    let many = format!("mkdir d; for i in $(seq {small}); do echo $i > d/$i; done\n");
    for (place, disk_mb) in [("in memory", 2_048), ("on disk", 4_096)] {
        for (program, files, bytes) in [(&one, 1, large), (&many, small, 0)] {
            let growth = Growth::of(&server);
            let began = Instant::now();
            let config = json!({"disk_mb": disk_mb, "memory_mb": 256});
            let result = send(&server, archive(program, 0, 0), config).await;
            assert_eq!(
                result["artifacts"].as_array().map(Vec::len),
                Some(files),
                "{place}: {}",
                result["error"]
            );
            let read = read_back(&server, &result).await;
            assert!(read >= bytes + files * 1_024, "{read} bytes in the archive");
            growth.hold(
                &server,
                &format!("{} MiB in {files} files out, {place}", bytes / MIB),
                files,
                began.elapsed(),
            );
        }
    }
    server.finish().await;
}

/// The first artifact against its hash, then all of them as an archive. The length of the archive.
async fn read_back(server: &Server, result: &Value) -> usize {
    let id = result["execution_id"].as_str().unwrap();
    let first = &result["artifacts"][0];
    let mut hash = Sha256::new();
    let url = format!("{}/api/v1/executions/{id}", server.url);
    let path = first["path"].as_str().unwrap();
    let mut content =
        server.client.get(format!("{url}/artifacts/{path}")).send().await.unwrap().bytes_stream();
    while let Some(piece) = content.next().await {
        hash.update(piece.unwrap());
    }
    assert_eq!(hex::encode(hash.finalize()), first["sha256"], "{path}");
    let archive = server.client.get(format!("{url}/artifacts.tar")).send().await.unwrap().bytes_stream();
    archive.fold(0, async |length, piece| length + piece.unwrap().len()).await
}
