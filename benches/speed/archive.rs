//! The archives that are sent, as multipart bodies.

use crate::Result;
use crate::client;

/// Size of a tar block; two empty ones end an archive.
const BLOCK: usize = 512;
const BOUNDARY: &str = "execbox-bench-boundary";
/// Between the metadata and the archive.
const TAR_PART: &str = "Content-Disposition: form-data; name=\"tar\"; filename=\"project.tar\"\r\n\r\n";
/// Pieces of a large archive.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

fn content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// What goes before the archive, and after it.
fn around() -> (Vec<u8>, Vec<u8>) {
    (format!("--{BOUNDARY}\r\n{TAR_PART}").into_bytes(), format!("\r\n--{BOUNDARY}--\r\n").into_bytes())
}

/// A request with this archive.
pub(crate) fn request(path: &str, tar: &[u8]) -> Vec<u8> {
    let (before, after) = around();
    client::post(path, &content_type(), &[&before, tar, &after].concat())
}

/// An archive with a program alone.
pub(crate) fn small(program: &str) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header(program.len() as u64), "main.py", program.as_bytes())?;
    Ok(tar.into_inner()?)
}

/// The request of an archive with a program and a large file, in the pieces in which it is sent.
pub(crate) struct Large {
    /// Head of the request and of the archive.
    pub(crate) head: Vec<u8>,
    /// Comes again and again; it does not compress.
    pub(crate) piece: Vec<u8>,
    pub(crate) pieces: usize,
    pub(crate) tail: Vec<u8>,
}

impl Large {
    pub(crate) fn new(path: &str, program: &str, bytes: u64) -> Result<Self> {
        let mut tar = small(program)?;
        // The file's data follows as the same piece again and again.
        tar.truncate(tar.len() - 2 * BLOCK);
        let mut header = header(bytes);
        header.set_path("blob")?;
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        let (before, after) = around();
        let tail = [vec![0; 2 * BLOCK], after].concat();
        let length = (before.len() + tar.len() + tail.len()) as u64 + bytes;
        let head = [client::head(path, &content_type(), length).into_bytes(), before, tar].concat();
        Ok(Self { head, piece: noise(), pieces: usize::try_from(bytes)? / PIECE_BYTES, tail })
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// One piece of pseudo-random bytes (xorshift).
pub(crate) fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(PIECE_BYTES / 8).flatten().collect()
}
