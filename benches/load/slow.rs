//! Callers that send a byte now and then, or none: do others notice, and how long do they stay?

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::samples::Samples;
use crate::server::Server;
use crate::table::Table;
use crate::{Result, health};

/// Callers of each kind, ...
const HEADS: usize = 200;
const STALLED: usize = 150;
const DRIPPING: usize = 150;
/// ... and how often they send a byte.
const HEAD_DRIP: Duration = Duration::from_millis(500);
const BODY_DRIP: Duration = Duration::from_secs(1);
/// How long health is asked for. Shorter than a head or a body may take.
const IDLE_TIME: Duration = Duration::from_secs(8);
const SLOW_TIME: Duration = Duration::from_secs(8);
/// The default deadlines of heads and bodies, each with the second that it may be late. A drip is seen at the byte
/// after its deadline.
const MAX_HEAD_S: f64 = 5.0 + 1.0;
const MAX_STALLED_S: f64 = 10.0 + 1.0;
const MAX_DRIPPING_S: f64 = 10.0 + 1.0 + BODY_DRIP.as_secs() as f64;
/// 99 in 100 answers of `/healthz`.
const MAX_HEALTH_MS: f64 = 100.0;
/// No caller stays for longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a slow reader's socket holds.
const SMALL_BUFFER: u32 = 4 << 10;

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    eprintln!("load: {} slow callers", HEADS + STALLED + DRIPPING);
    let server = Server::start(&[]).await?;
    let url = server.url().to_owned();
    let idle = health(&url, false, IDLE_TIME).await?;
    let callers = tokio::spawn(all(address(&url)));
    let (slow, fresh) = tokio::try_join!(health(&url, false, SLOW_TIME), health(&url, true, SLOW_TIME))?;
    let [heads, stalled, dripping] = callers.await??;
    server.stop().await?;
    table.value("healthz, idle", &idle, "ms");
    table.value("healthz, 500 slow callers", &slow, "ms");
    table.value("healthz, 500 slow callers, new connection each", &fresh, "ms");
    let worst = slow.percentile(99).max(fresh.percentile(99));
    table.number("P16 healthz p99, 500 slow callers", worst, "ms").at_most(MAX_HEALTH_MS);
    table.number("    as a multiple of idle p99", worst / idle.percentile(99), "×");
    table.number("B01 last slow head closed after", last(&heads), "s").at_most(MAX_HEAD_S);
    table.number("P16 last stalled body closed after", last(&stalled), "s").at_most(MAX_STALLED_S);
    table.number("B02 last dripping body closed after", last(&dripping), "s").at_most(MAX_DRIPPING_S);
    Ok(())
}

fn last(times: &Samples) -> f64 {
    times.percentile(100) / 1_000.0
}

/// Where a server listens, for sockets.
pub(crate) fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

/// How long each of them stayed, by kind.
async fn all(address: String) -> Result<[Samples; 3]> {
    let body = "POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 60000\r\n\r\n";
    let of = |count, head, drip, status| {
        let address = address.clone();
        async move {
            let callers = (0..count).map(|_| tokio::spawn(caller(address.clone(), head, drip, status)));
            let mut stayed = Samples::default();
            for time in try_join_all(callers).await? {
                stayed.add(time?);
            }
            Result::Ok(stayed)
        }
    };
    let (heads, stalled, dripping) = tokio::try_join!(
        of(HEADS, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", Some(HEAD_DRIP), "408"),
        of(STALLED, body, None, "408"),
        of(DRIPPING, body, Some(BODY_DRIP), "408"),
    )?;
    Ok([heads, stalled, dripping])
}

/// One caller: how long it stays until it is answered with this status.
async fn caller(
    address: String,
    head: &'static str,
    drip: Option<Duration>,
    status: &str,
) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    let began = Instant::now();
    stream.write_all(head.as_bytes()).await?;
    while tokio::time::timeout(drip.unwrap_or(PATIENCE), stream.readable()).await.is_err() {
        if began.elapsed() >= PATIENCE {
            return Err("a slow caller is never sent away".into());
        }
        stream.write_all(b" ").await?;
    }
    let took = began.elapsed();
    let mut answer = [0; 12];
    let length = stream.read(&mut answer).await?;
    let line = String::from_utf8_lossy(&answer[..length]);
    if line.ends_with(status) { Ok(took) } else { Err(format!("a slow caller got {line:?}").into()) }
}

/// A caller that reads a byte each second until it is sent away; again and again until this instant.
pub(crate) async fn slow_reader(address: &str, path: &str, until: Instant) -> Result<u32> {
    let mut answers = 0;
    while Instant::now() < until {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
        let mut stream = socket.connect(address.parse()?).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut byte = [0];
        // What came before the server hung up is still there to be read; the next answer begins all the same.
        while Instant::now() < until
            && stream.take_error()?.is_none()
            && stream.read(&mut byte).await.is_ok_and(|count| count > 0)
        {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        answers += 1;
    }
    Ok(answers)
}

/// A caller that sends the beginning of an archive and stalls; again and again until this instant.
pub(crate) async fn stalled_upload(address: &str, until: Instant) -> Result<u32> {
    let head = "POST /api/v1/exec/async HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n\
                Content-Length: 50000000\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"tar\"\r\n\r\n";
    let mut archive = tar::Header::new_ustar();
    archive.set_path("main.py")?;
    archive.set_size(40_000_000);
    archive.set_mode(0o644);
    archive.set_cksum();
    let mut uploads = 0;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(archive.as_bytes()).await?;
        stream.write_all(&vec![b'#'; 1 << 20]).await?;
        let left = until.saturating_duration_since(Instant::now());
        drop(tokio::time::timeout(left, stream.readable()).await);
        uploads += 1;
    }
    Ok(uploads)
}
