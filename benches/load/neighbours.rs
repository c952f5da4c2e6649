//! A hello beside hostile programs in the other slot, and beside another tenant's flood of submissions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::samples::{Samples, timed};
use crate::server::Server;
use crate::table::Table;
use crate::{EXECBOX, Result};

/// Hellos in a row, idle and attacked by turns, ...
const EACH: usize = 20;
/// ... and how many turns.
const TURNS: usize = 3;
/// A hello beside an attack takes at most this many idle ones, at the 95th percentile.
const MAX_RATIO: f64 = 2.0;
/// Callers of the tenant that floods.
const FLOOD: usize = 32;
/// An attack runs for this long, and then again.
const ATTACK_SECONDS: u64 = 4;
/// Before the first sample beside an attack.
const LEAD: Duration = Duration::from_millis(500);

/// Name, language, program.
const ATTACKS: [(&str, &str, &str); 5] = [
    ("a fork bomb", "bash", "bomb() { while :; do bomb & done 2>/dev/null; }; bomb; wait"),
    ("a memory bomb", "python", "held = []\nwhile True: held.append(bytearray(b'x') * (1 << 20))"),
    ("an output flood", "bash", "yes"),
    ("a processor burn", "python", "import os\nfor _ in range(2): os.fork()\nwhile True: pass"),
    (
        "a full disk",
        "python",
        "import os\nwhile True:\n    try:\n        with open('f', 'wb') as file:\n            while True: file.write(bytes(1 << 20))\n    \
         except OSError: os.remove('f')",
    ),
];

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    for (name, language, code) in ATTACKS {
        attack(
            table,
            name,
            &json!({
                "language": language, "code": code, "config": {"timeout_seconds": ATTACK_SECONDS},
            }),
        )
        .await?;
    }
    flood(table, "P13 other tenant floods, p95 / idle p95", &[], true).await?;
    // Every worker may be the other's.
    flood(table, "    the same when tenants only take turns", &["--tenant-concurrency", "2"], false).await
}

async fn attack(table: &mut Table, name: &str, program: &Value) -> Result<()> {
    eprintln!("load: a hello beside {name}");
    let server = Server::start(&["--workers", "2"]).await?;
    hellos(&server, 3).await?;
    let (mut idle, mut attacked, mut attacks) = (Samples::default(), Samples::default(), 0);
    for _ in 0..TURNS {
        idle.extend(hellos(&server, EACH).await?);
        let stop = AtomicBool::new(false);
        let attacker = async {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let result = server.eval(program).await?;
                if matches!(result["reason"].as_str(), None | Some("internal")) {
                    return Err(format!("an attack that ends with {}", result["reason"]).into());
                }
                server.purge(&result).await?;
                count += 1;
            }
            Result::Ok(count)
        };
        let beside = async {
            tokio::time::sleep(LEAD).await;
            let samples = hellos(&server, EACH).await;
            stop.store(true, Ordering::Relaxed);
            samples
        };
        let (count, samples) = tokio::try_join!(attacker, beside)?;
        attacked.extend(samples);
        attacks += count;
    }
    server.stop().await?;
    table.value("hello, idle", &idle, "ms");
    table.value(&format!("hello beside {name} ({attacks} of them)"), &attacked, "ms");
    let ratio = attacked.percentile(95) / idle.percentile(95);
    table.number(&format!("P13 {name}, p95 / idle p95"), ratio, "×").at_most(MAX_RATIO);
    table.number("    median / idle median", attacked.median() / idle.median(), "×");
    Ok(())
}

async fn hellos(server: &Server, count: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        samples.add(timed(server.hello()).await?.0);
    }
    Ok(samples)
}

/// One of two tenants with a key each.
struct Tenant {
    client: reqwest::Client,
    url: String,
}

impl Tenant {
    async fn new(server: &Server, name: &str) -> Result<Self> {
        let create = ["keys", "create", "--tenant", name, "--data-dir"];
        let made = Command::new(EXECBOX).args(create).arg(server.data()).output().await?;
        let key = String::from_utf8(made.stdout)?;
        let bearer = format!("Bearer {}", key.trim()).parse()?;
        let headers = [(reqwest::header::AUTHORIZATION, bearer)].into_iter().collect();
        let client = reqwest::Client::builder().no_proxy().default_headers(headers).build()?;
        Ok(Self { client, url: format!("{}/api/v1/eval", server.url()) })
    }

    async fn hello(&self) -> Result<()> {
        let answer = self.client.post(&self.url).json(&json!({"code": "print('hello')"})).send().await?;
        let result: Value = answer.json().await?;
        if result["stdout"] == "hello\n" { Ok(()) } else { Err(format!("no hello: {result}").into()) }
    }

    async fn hellos(&self) -> Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..EACH {
            samples.add(timed(self.hello()).await?.0);
        }
        Ok(samples)
    }
}

async fn flood(table: &mut Table, name: &str, flags: &[&str], held: bool) -> Result<()> {
    eprintln!("load: a hello while another tenant floods {}", flags.join(" "));
    let server = Server::start(&[&["--workers", "2"], flags].concat()).await?;
    let (flooding, other) = (Tenant::new(&server, "flood").await?, Tenant::new(&server, "other").await?);
    // The first keys hold within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.hellos().await?;
    let (mut idle, mut beside) = (Samples::default(), Samples::default());
    for _ in 0..TURNS {
        idle.extend(other.hellos().await?);
        let stop = AtomicBool::new(false);
        let floods = try_join_all((0..FLOOD).map(|_| async {
            while !stop.load(Ordering::Relaxed) {
                flooding.hello().await?;
            }
            Result::Ok(())
        }));
        let samples = async {
            tokio::time::sleep(LEAD).await;
            let samples = other.hellos().await;
            stop.store(true, Ordering::Relaxed);
            samples
        };
        beside.extend(tokio::try_join!(floods, samples)?.1);
    }
    server.stop().await?;
    table.value("hello of one tenant, idle", &idle, "ms");
    table.value(&format!("hello while {FLOOD} callers of another flood"), &beside, "ms");
    let row = table.number(name, beside.percentile(95) / idle.percentile(95), "×");
    if held {
        row.at_most(MAX_RATIO);
    }
    Ok(())
}
