//! Output of a running program for those who ask for it meanwhile: what is large is written to a file once, for all of
//! them, so that a slow reader holds no copy of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::execution::content::Content;

/// Room for one channel, where its cap is larger. Nothing in memory comes near; a file can have four of them.
const MAX_ROOM: usize = 1 << 36;

/// What one attempt has written to its channels, each in a region of the file. The file has no name, and goes with its
/// last reader; what was not written of it takes no place on the disk.
#[derive(Debug)]
pub(super) struct LiveFile {
    attempt: u32,
    file: Arc<File>,
    room: usize,
    written: [usize; 4],
}

impl LiveFile {
    /// In this folder, for channels of at most `cap` bytes.
    pub(super) fn new(attempt: u32, folder: &Path, cap: usize) -> io::Result<Self> {
        let file = Arc::new(tempfile::tempfile_in(folder)?);
        Ok(Self { attempt, file, room: cap.min(MAX_ROOM), written: [0; 4] })
    }

    /// What is there of another attempt is void.
    pub(super) fn is_of(&self, attempt: u32) -> bool {
        self.attempt == attempt
    }

    /// The first `length` bytes of a channel. `more` gives what comes at a place, a piece at a time.
    pub(super) fn content(
        &mut self,
        channel: usize,
        length: usize,
        more: impl Fn(usize) -> io::Result<Vec<u8>>,
    ) -> io::Result<Content> {
        let (begin, written) = (channel * self.room, &mut self.written[channel]);
        while *written < length {
            let piece = more(*written)?;
            self.file.write_all_at(&piece, (begin + *written) as u64)?;
            *written += piece.len();
        }
        Ok(Content::in_file(Arc::clone(&self.file), begin, length))
    }
}
