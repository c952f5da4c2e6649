//! What the server occupies while everything comes together: floods, slow readers, stalled uploads, bombs.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::future::try_join_all;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::Result;
use crate::resident::{peak, resident};
use crate::server::Server;
use crate::slow::{address, slow_reader, stalled_upload};
use crate::table::Table;

/// Resident set of the server, in MB.
const MAX_MB: f64 = 100.0;
/// What encoded bodies may add, in MB.
const MAX_ENCODED_MB: f64 = 1.05;
/// How long it all goes on: longer than any deadline of the server.
const TIME: Duration = Duration::from_secs(45);
const FLOODS: usize = 2;
const READERS: usize = 100;
/// They read these, their artifacts, and what a running program has written.
const RESULTS: usize = 5;
const UPLOADS: usize = 50;
/// Of each of two kinds.
const BOMBS: usize = 10;
/// Between two bombs of one caller: what is measured is memory, not how many fit into a second.
const BOMB_REST: Duration = Duration::from_secs(5);
/// Zeros in a bomb.
const BOMB_BYTES: usize = 10 << 20;
/// Files of a mebibyte in an archive that is over the cap of 100.
const BOMB_FILES: usize = 120;
/// Fills both streams to the default cap, and leaves two files.
const LARGE: &str = "import os, sys\n\
    os.write(1, b'x' * (1 << 20)); os.write(2, b'y' * (1 << 20))\n\
    for name in 'ab': open(name, 'wb').write(os.urandom(8 << 20))\n";

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    eprintln!("load: memory under everything together, {} s", TIME.as_secs());
    // One more than there are floods, for the program that is read while it runs.
    let server = Server::start(&["--workers", "3"]).await?;
    encoded(&server, 1).await?;
    let before = resident(server.pid(), "VmRSS")?;
    let (after, ()) = peak(server.pid(), encoded(&server, 2 * BOMBS)).await?;
    table.number("B08 RSS that 20 encoded bodies add", after - before, "MB").at_most(MAX_ENCODED_MB);
    let mut paths = Vec::new();
    for _ in 0..RESULTS {
        let result = server.eval(&json!({"code": LARGE})).await?;
        let path = path_of(&result)?;
        paths.extend([path.clone(), format!("{path}/artifacts/a"), format!("{path}/artifacts.tar")]);
    }
    let (running, accepted) = start(&server).await?;
    paths.push(running);
    let (peak, note) = peak(server.pid(), together(&server, &paths)).await?;
    server.purge(&accepted).await?;
    table.number("P6 server RSS, peak of all together", peak, "MB").at_most(MAX_MB);
    table.note(note);
    server.stop().await
}

fn path_of(result: &Value) -> Result<String> {
    let id = result["execution_id"].as_str().ok_or("a result without an id")?;
    Ok(format!("/api/v1/executions/{id}"))
}

/// A program that has written much and goes on running.
async fn start(server: &Server) -> Result<(String, Value)> {
    let body =
        json!({"code": format!("{LARGE}import time; time.sleep(600)"), "config": {"timeout_seconds": 600}});
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/api/v1/exec/async", server.url());
    let accepted: Value = client.post(url).json(&body).send().await?.json().await?;
    let path = path_of(&accepted)?;
    let asked = Instant::now();
    loop {
        let seen: Value = client.get(format!("{}{path}", server.url())).send().await?.json().await?;
        if seen["status"] == "running" && seen["stderr"].as_str().is_some_and(|text| text.len() == 1 << 20) {
            return Ok((path, accepted));
        }
        if asked.elapsed() > TIME {
            return Err(format!("a program that writes nothing: {}", seen["status"]).into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All of it at once.
async fn together(server: &Server, paths: &[String]) -> Result<String> {
    let (until, address) = (Instant::now() + TIME, address(server.url()));
    let readers = (0..READERS).map(|number| slow_reader(&address, &paths[number % paths.len()], until));
    let uploads = (0..UPLOADS).map(|_| stalled_upload(&address, until));
    let floods = (0..FLOODS).map(|_| flood(server, until));
    let bomb = archive_bomb()?;
    let archives = (0..BOMBS).map(|_| bombs(server, &bomb, until));
    let bodies = async {
        let mut count = 0;
        while Instant::now() < until {
            encoded(server, BOMBS).await?;
            count += BOMBS;
            tokio::time::sleep(BOMB_REST).await;
        }
        Ok(count)
    };
    let (readers, uploads, floods, archives, bodies) = tokio::try_join!(
        try_join_all(readers),
        try_join_all(uploads),
        try_join_all(floods),
        try_join_all(archives),
        bodies,
    )?;
    let sum = |counts: Vec<u32>| counts.iter().sum::<u32>();
    Ok(format!(
        "P6: {FLOODS} floods ({} programs), {READERS} slow readers of {RESULTS} results and a running \
         program ({} answers), {UPLOADS} stalled uploads ({} in all), \
         {BOMBS} callers with archive bombs ({}), {bodies} encoded bodies.",
        sum(floods),
        sum(readers),
        sum(uploads),
        sum(archives),
    ))
}

async fn flood(server: &Server, until: Instant) -> Result<u32> {
    let mut programs = 0;
    while Instant::now() < until {
        let result = server.eval(&json!({"language": "bash", "code": "yes"})).await?;
        if result["reason"] != "output_limit" {
            return Err(format!("a flood that ends with {}", result["reason"]).into());
        }
        server.purge(&result).await?;
        programs += 1;
    }
    Ok(programs)
}

/// Bodies that would be large once decoded: they are refused by their head.
async fn encoded(server: &Server, count: usize) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let bomb = gzip(&vec![b' '; BOMB_BYTES])?;
    let url = format!("{}/api/v1/eval", server.url());
    let bodies = (0..count).map(|number| {
        let encoding = ["gzip", "br", "zstd", "deflate"][number % 4];
        let request = client.post(&url).header("content-type", "application/json");
        let request = request.header("content-encoding", encoding).body(bomb.clone());
        async { refused(request.send().await?, 415, "unsupported_encoding").await }
    });
    try_join_all(bodies).await.map(drop)
}

/// Archives that are small, and over the cap once unpacked.
async fn bombs(server: &Server, bomb: &[u8], until: Instant) -> Result<u32> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut count = 0;
    while Instant::now() < until {
        let form = Form::new().part("tar", Part::bytes(bomb.to_vec()));
        let request = client.post(format!("{}/api/v1/exec/async", server.url())).multipart(form);
        let answer = request.send().await?;
        // Together with the stalled ones there may be too many uploads.
        if answer.status() != 429 {
            refused(answer, 413, "archive_too_large").await?;
            count += 1;
        }
        tokio::time::sleep(BOMB_REST).await;
    }
    Ok(count)
}

async fn refused(answer: reqwest::Response, status: u16, code: &str) -> Result<()> {
    let got = answer.status();
    let body: Value = answer.json().await?;
    if got == status && body["code"] == code {
        Ok(())
    } else {
        Err(format!("a bomb got {got}: {body}").into())
    }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn archive_bomb() -> Result<Vec<u8>> {
    let (mut tar, zeros) = (tar::Builder::new(Vec::new()), vec![0; 1 << 20]);
    for number in 0..BOMB_FILES {
        let mut head = tar::Header::new_ustar();
        head.set_size(zeros.len() as u64);
        head.set_mode(0o644);
        tar.append_data(&mut head, format!("{number}.py"), &zeros[..])?;
    }
    gzip(&tar.into_inner()?)
}
