//! What the server occupies: idle, while a big archive comes in, and while two programs flood their output.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::multipart::Part;
use serde_json::json;

use crate::Result;
use crate::resident::{peak, resident};
use crate::samples::timed;
use crate::server::Server;
use crate::table::Table;

/// Resident set of an idle server, in MB.
const MAX_IDLE_MB: f64 = 20.0;
/// Resident set of a busy server, in MB.
const MAX_BUSY_MB: f64 = 80.0;
/// Before the idle server is looked at.
const REST: Duration = Duration::from_secs(1);
/// Size of the uploaded file.
const UPLOAD_BYTES: u64 = 1 << 30;
/// The archive comes in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Room for it, in MiB.
const ROOM_MIB: u64 = 1_100;
/// Both flooders start again and again for this long: a flood is stopped at 16 times its output limit.
const FLOOD: Duration = Duration::from_secs(5);
/// Reads the length of what came in.
const MAIN: &str = "import os; print(os.path.getsize('blob'))\n";

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    eprintln!("bench: memory");
    let room = ROOM_MIB.to_string();
    let server = Server::start(&["--archive-mb", &room, "--disk-mb", &room]).await?;
    tokio::time::sleep(REST).await;
    table.number("server RSS, idle", resident(server.pid(), "VmRSS")?, "MB").at_most(MAX_IDLE_MB);
    table.number("server RSS, peak of the start", resident(server.pid(), "VmHWM")?, "MB");
    let (peak, (took, ())) = peak(server.pid(), timed(upload(&server))).await?;
    table.number("server RSS, peak of a 1 GiB upload", peak, "MB").at_most(MAX_BUSY_MB);
    table.note(format!("The 1 GiB upload with its execution took {:.1} s.", took.as_secs_f64()));
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

async fn upload(server: &Server) -> Result<()> {
    let (pieces, length) = archive()?;
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces.map(Ok::<_, std::io::Error>)));
    let part = Part::stream_with_length(body, length).file_name("project.tar");
    let result = server.upload(part, &json!({"entrypoint": "main.py"})).await?;
    if result["stdout"] == format!("{UPLOAD_BYTES}\n") {
        Ok(())
    } else {
        Err(format!("the upload did not arrive whole: {result}").into())
    }
}

/// The archive in pieces, and its length: a program, and a file that does not compress.
fn archive() -> Result<(impl Iterator<Item = Bytes> + Send + 'static, u64)> {
    let mut head = tar::Builder::new(Vec::new());
    let mut header = header(MAIN.len() as u64);
    head.append_data(&mut header, "main.py", MAIN.as_bytes())?;
    // Only the header: its data follows as the same piece again and again.
    let mut head = head.into_inner()?;
    head.truncate(head.len() - 2 * BLOCK);
    let mut header = self::header(UPLOAD_BYTES);
    header.set_path("blob")?;
    header.set_cksum();
    head.extend_from_slice(header.as_bytes());
    let piece = noise();
    let count = usize::try_from(UPLOAD_BYTES)? / PIECE_BYTES;
    let length = head.len() as u64 + UPLOAD_BYTES + 2 * BLOCK as u64;
    let pieces = std::iter::once(Bytes::from(head))
        .chain(std::iter::repeat_n(piece, count))
        .chain(std::iter::once(Bytes::from(vec![0; 2 * BLOCK])));
    Ok((pieces, length))
}

/// Size of a tar block; two empty ones end an archive.
const BLOCK: usize = 512;

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// One piece of pseudo-random bytes (xorshift).
fn noise() -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(PIECE_BYTES / 8).flatten().collect()
}
