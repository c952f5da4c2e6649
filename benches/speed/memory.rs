//! What the server occupies: idle, and while two programs flood their output.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::resident::{peak, resident};
use crate::server::Server;
use crate::table::Table;

/// Resident set of an idle server, in MB.
const MAX_IDLE_MB: f64 = 20.0;
/// Resident set of a busy server, in MB.
const MAX_BUSY_MB: f64 = 80.0;
/// Before the idle server is looked at.
const REST: Duration = Duration::from_secs(1);
/// Both flooders start again and again for this long: a flood is stopped at 16 times its output limit.
const FLOOD: Duration = Duration::from_secs(5);

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    eprintln!("bench: memory");
    let server = Server::start(&[]).await?;
    tokio::time::sleep(REST).await;
    table.number("server RSS, idle", resident(server.pid(), "VmRSS")?, "MB").at_most(MAX_IDLE_MB);
    table.number("server RSS, peak of the start", resident(server.pid(), "VmHWM")?, "MB");
    server.stop().await?;
    floods(table).await
}

async fn floods(table: &mut Table) -> Result<()> {
    for keep in [false, true] {
        let server = Server::start(&[]).await?;
        let (peak, programs) = peak(server.pid(), async {
            let (one, two) = tokio::try_join!(flood(&server, keep), flood(&server, keep))?;
            Ok(one + two)
        })
        .await?;
        server.stop().await?;
        if keep {
            // Not bounded by the two programs, but by --keep-mb.
            table.number(&format!("server RSS, {programs} such results kept"), peak, "MB");
        } else {
            table.number("server RSS, peak of two floods", peak, "MB").at_most(MAX_BUSY_MB);
        }
    }
    Ok(())
}

/// Programs that write without an end, one after the other; their results are kept, or purged once they are read.
/// Gives how many.
async fn flood(server: &Server, keep: bool) -> Result<u32> {
    let (began, mut programs) = (Instant::now(), 0);
    while began.elapsed() < FLOOD {
        let result = server.eval(&json!({"language": "bash", "code": "yes"})).await?;
        if result["reason"] != "output_limit" {
            return Err(format!("a flood that ends with {}", result["reason"]).into());
        }
        if !keep {
            server.purge(&result).await?;
        }
        programs += 1;
    }
    Ok(programs)
}
