//! The door for uploaded archives.

use std::fmt;
use std::io;
use std::path::Path;

use super::compression::{Pipeline, Sink};
use super::header::BLOCK;
use super::parser::TarParser;
use super::{ArchiveError, ArchiveLimits, Project, ProjectWriter, RefusalCode};

/// What an entry may need besides its content: an extended header of two blocks, its own, and padding.
const OVERHEAD_PER_ENTRY: u64 = 4 * BLOCK as u64;
/// What an archive may need besides its entries: a global header, the end mark, and the padding of its last record.
const OVERHEAD: u64 = 1 << 20;

/// Reads an archive while it arrives. Push pieces of any size, then finish.
///
/// Memory does not grow with the archive: a block, one extended header of at most 64 KiB, the decompressor's window (at
/// most 8 MiB), and the entries' names.
pub struct ArchiveReader {
    /// `None` after a failure.
    pipeline: Option<Pipeline>,
    /// Bytes of body that are still taken.
    body_left: u64,
}

impl ArchiveReader {
    /// Spools into a new file in `spool`, an existing folder.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn new(spool: &Path, limits: ArchiveLimits) -> Result<Self, ArchiveError> {
        let parser = TarParser::new(ProjectWriter::new(spool, limits)?);
        let overhead = limits.entries.saturating_mul(OVERHEAD_PER_ENTRY).saturating_add(OVERHEAD);
        let unpacked = limits.bytes.saturating_add(overhead);
        Ok(Self {
            pipeline: Some(Pipeline::Undecided(Vec::new(), Sink::new(parser, unpacked))),
            // Compressed streams can hold parts that unpack to nothing. No compressor doubles what it is given.
            body_left: unpacked.saturating_mul(2),
        })
    }

    /// Takes the next piece of the body (plain, gzip or zstd; told apart by the first bytes).
    ///
    /// # Errors
    /// The first rule that the archive breaks. The reader is of no use after it, and its spool file is gone.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let pipeline = self.pipeline.take().ok_or_else(failed_before)?;
        self.body_left = self.body_left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            ArchiveError::refused(
                RefusalCode::TooLarge,
                "the body is larger than any archive within the limits",
            )
        })?;
        self.pipeline = Some(pipeline.push(bytes)?);
        Ok(())
    }

    /// Bytes of memory that the reader holds by now. They grow with the entries' names and the decompressor's window.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.pipeline.as_ref().map_or(0, Pipeline::memory_bytes)
    }

    /// Bytes that [`Self::memory_bytes`] grows by at most when these come next, at most a quarter of a mebibyte of them.
    #[must_use]
    pub fn growth(&self, bytes: &[u8]) -> usize {
        self.pipeline.as_ref().map_or(0, |pipeline| pipeline.growth(bytes))
    }

    /// The body is over.
    ///
    /// # Errors
    /// The archive is cut short, or has no files.
    pub fn finish(self) -> Result<Project, ArchiveError> {
        self.pipeline.ok_or_else(failed_before)?.finish()
    }
}

impl fmt::Debug for ArchiveReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveReader").field("body_left", &self.body_left).finish_non_exhaustive()
    }
}

fn failed_before() -> ArchiveError {
    io::Error::other("the archive was refused before").into()
}
