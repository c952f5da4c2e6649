//! Thousands of idle connections, and more submissions at once than there is room for.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::try_join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::resident::peak;
use crate::samples::{Samples, timed};
use crate::server::Server;
use crate::slow::address;
use crate::table::{Table, float};
use crate::{Result, metric};

/// Connections, opened in groups of this size.
const CONNECTIONS: usize = 10_000;
const GROUP: usize = 100;
/// The server's own default limit.
const MAX_CONNECTIONS: f64 = 2_048.0;
/// 99 in 100 answers of `/healthz`, on a new connection each.
const MAX_HEALTH_MS: f64 = 100.0;
/// Resident set of the server with all of them, in MB.
const MAX_MB: f64 = 100.0;
/// Submissions, that many of them at once, ...
const SUBMISSIONS: usize = 2_000;
const AT_ONCE: usize = 200;
/// ... and the places in the queue.
const PLACES: &str = "40";

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    connections(table).await?;
    submissions(table).await
}

async fn connections(table: &mut Table) -> Result<()> {
    eprintln!("load: {CONNECTIONS} idle connections");
    let server = Server::start(&[]).await?;
    let (peak, (health, held, open)) = peak(server.pid(), idle(server.url())).await?;
    drop(held);
    server.stop().await?;
    table.value("healthz, 10,000 idle connections, new connection each", &health, "ms");
    let p99 = health.percentile(99);
    table.number("B14 healthz p99, 10,000 idle connections", p99, "ms").at_most(MAX_HEALTH_MS);
    table.number("B14 connections that are open", open, "").at_most(MAX_CONNECTIONS);
    table.number("B14 server RSS, peak", peak, "MB").at_most(MAX_MB);
    Ok(())
}

/// Opens them one group after the other, each with one request, and asks for health in between.
async fn idle(url: &str) -> Result<(Samples, Vec<TcpStream>, f64)> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
    let (address, mut held, mut health) = (address(url), Vec::new(), Samples::default());
    while held.len() < CONNECTIONS {
        let group = (0..GROUP).map(|_| async {
            let mut stream = TcpStream::connect(&address).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
            Result::Ok(stream)
        });
        held.extend(try_join_all(group).await?);
        let (took, answer) = timed(async { Ok(client.get(format!("{url}/healthz")).send().await?) }).await?;
        if answer.status() != 200 {
            return Err(format!("health: {}", answer.status()).into());
        }
        health.add(took);
    }
    let open = metric(url, "execbox_connections").await?;
    Ok((health, held, open))
}

async fn submissions(table: &mut Table) -> Result<()> {
    eprintln!("load: {SUBMISSIONS} submissions, {AT_ONCE} at once");
    let server = Server::start(&["--queue-length", PLACES]).await?;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(600)).build()?;
    let (url, body) = (server.url(), json!({"language": "bash", "code": "echo hello"}));
    let (client, body) = (&client, &body);
    let answers: Vec<Result<Option<String>>> = futures::stream::iter(0..SUBMISSIONS)
        .map(|_| async move {
            let answer = client.post(format!("{url}/api/v1/exec/async")).json(body).send().await?;
            let retry_after = answer.headers().contains_key("retry-after");
            match answer.status() {
                StatusCode::ACCEPTED => {
                    let id = answer.json::<Value>().await?["execution_id"].take();
                    Ok(id.as_str().map(str::to_owned))
                }
                StatusCode::TOO_MANY_REQUESTS if retry_after => Ok(None),
                status => Err(format!("a submission got {status}").into()),
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    let given: Vec<_> = answers.into_iter().flatten().collect();
    let ids: BTreeSet<_> = given.iter().collect();
    let mut lost = 0_u64;
    for id in &ids {
        let answer = client.get(format!("{url}/api/v1/executions/{id}?wait=300")).send().await?;
        let result: Value = answer.json().await?;
        lost += u64::from(result["stdout"] != "hello\n");
    }
    server.stop().await?;
    table.number("B13 of 2,000 submissions, accepted", float(given.len() as u64), "");
    table.number("B13 ids given twice", float((given.len() - ids.len()) as u64), "").at_most(0.0);
    table.number("B13 accepted and not run to their end", float(lost), "").at_most(0.0);
    Ok(())
}
