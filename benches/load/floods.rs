//! Floods of request bodies: large ones of which the last byte never comes, thousands of small ones, and ones that are
//! small as text and large as values. All of them together, until the time is over.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::resident::peak;
use crate::server::Server;
use crate::slow::address;
use crate::table::Table;
use crate::{Result, health};

/// Resident set of the server, in MB: 64 MiB of budget, and the server itself with 1,800 connections.
const MAX_MB: f64 = 150.0;
/// 99 in 100 answers of `/healthz`, on a new connection each.
const MAX_HEALTH_MS: f64 = 100.0;
/// How long it goes on: longer than a body may stall.
const TIME: Duration = Duration::from_secs(30);
/// Callers with a body of 8 MiB, and again as many with such a `metadata` part: every upload's place is taken. With those
/// below they are some fewer than the connections from which on idle ones make room, as the ones of `/healthz` would.
const LARGE: usize = 32;
/// Callers with a body of 64 KiB, which takes no upload's place, ...
const SMALL: usize = 1_700;
/// ... and with 2.8 million empty arguments.
const AMPLIFIED: usize = 4;
/// The default cap of a JSON body, and the longest that needs no place.
const LARGE_BYTES: usize = 8 << 20;
const SMALL_BYTES: usize = 64 << 10;
/// Before a caller that was answered comes again.
const REST: Duration = Duration::from_millis(500);

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    eprintln!("load: four floods of bodies, {} s", TIME.as_secs());
    let server = Server::start(&[]).await?;
    let url = server.url().to_owned();
    let callers = tokio::spawn(all(address(&url), Instant::now() + TIME));
    let (peak, health) = peak(server.pid(), health(&url, true, TIME)).await?;
    let [large, metadata, small, amplified] = callers.await??;
    server.stop().await?;
    table.value("healthz, four floods of bodies", &health, "ms");
    table
        .number("P16 healthz p99, four floods of bodies", health.percentile(99), "ms")
        .at_most(MAX_HEALTH_MS);
    table.number("P6 server RSS, peak of four floods of bodies", peak, "MB").at_most(MAX_MB);
    table.note(format!(
        "P6: bodies without their last byte, {LARGE} callers with 8 MiB ({large} bodies in all) and {LARGE} with as much \
         metadata ({metadata}), {SMALL} with 64 KiB ({small}); {AMPLIFIED} with 8 MiB of empty arguments ({amplified})."
    ));
    Ok(())
}

/// How many bodies were sent, by kind.
async fn all(address: String, until: Instant) -> Result<[usize; 4]> {
    let json = |length: usize| [&b"{\"code\":\""[..], &vec![b'x'; length - 11], b"\"}"].concat();
    let metadata =
        [&b"--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n"[..], &json(LARGE_BYTES)]
            .concat();
    let empty = r#""","#.repeat((LARGE_BYTES - 64) / 3);
    let amplified = format!(r#"{{"code":"1","script_args":[{empty}""]}}"#).into_bytes();
    let without_last = |mut body: Vec<u8>| {
        let length = body.len();
        body.truncate(length - 1);
        (length, body)
    };
    let (multipart, plain) = ("multipart/form-data; boundary=x", "application/json");
    let flood = async |count: usize, kind: &str, (length, body): (usize, Vec<u8>)| {
        let head = format!(
            "POST /api/v1/exec/async HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        let callers = (0..count).map(|_| caller(&address, &head, &body, until));
        Result::Ok(try_join_all(callers).await?.into_iter().sum::<usize>())
    };
    let (large, metadata, small, amplified) = tokio::try_join!(
        flood(LARGE, plain, without_last(json(LARGE_BYTES))),
        flood(LARGE, multipart, without_last(metadata)),
        flood(SMALL, plain, without_last(json(SMALL_BYTES))),
        flood(AMPLIFIED, plain, (amplified.len(), amplified)),
    )?;
    Ok([large, metadata, small, amplified])
}

/// Sends a body again and again, each time until there is an answer or the time is over.
async fn caller(address: &str, head: &str, body: &[u8], until: Instant) -> Result<usize> {
    let mut bodies = 0;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        let left = until.saturating_duration_since(Instant::now());
        let sending = async {
            // Whoever is refused meanwhile finds the connection closed.
            drop(stream.write_all(body).await);
            drop(stream.read(&mut [0]).await);
        };
        drop(tokio::time::timeout(left, sending).await);
        bodies += 1;
        tokio::time::sleep(REST).await;
    }
    Ok(bodies)
}
