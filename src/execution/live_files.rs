//! Output of a running program for those who ask for it meanwhile: what is large is written to files once, for all of
//! them, so that a slow reader holds no copy of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::execution::content::Content;

/// The files of one attempt. They have no names, and go with their last reader.
#[derive(Debug, Default)]
pub(super) struct LiveFiles {
    attempt: u32,
    channels: [Option<LiveFile>; 4],
}

#[derive(Debug)]
pub(super) struct LiveFile {
    file: Arc<File>,
    written: usize,
}

impl LiveFiles {
    /// Those of this attempt: what is there of another is void.
    pub(super) fn of(&mut self, attempt: u32) -> &mut [Option<LiveFile>; 4] {
        if self.attempt != attempt {
            *self = Self { attempt, ..Self::default() };
        }
        &mut self.channels
    }
}

/// The first `length` bytes of a channel. `more` gives what comes at a place, a piece at a time.
pub(super) fn content(
    channel: &mut Option<LiveFile>,
    length: usize,
    folder: &Path,
    more: impl Fn(usize) -> io::Result<Vec<u8>>,
) -> io::Result<Content> {
    if length == 0 {
        return Ok(Bytes::new().into());
    }
    let live = match channel {
        Some(live) => live,
        None => channel.insert(LiveFile { file: Arc::new(tempfile::tempfile_in(folder)?), written: 0 }),
    };
    while live.written < length {
        let piece = more(live.written)?;
        live.file.write_all_at(&piece, live.written as u64)?;
        live.written += piece.len();
    }
    Ok(Content::in_file(Arc::clone(&live.file), 0, length))
}
