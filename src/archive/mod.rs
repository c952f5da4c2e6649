//! Projects: the strict reader of uploaded archives, and the canonical form in which a project goes on.
//!
//! An archive is read exactly once, while it arrives, by our own policy over its bytes; what comes out are runner
//! frames, so that no second parser ever sees the caller's bytes. Nothing is unpacked on the host.

mod compression;
mod files;
mod header;
mod links;
mod parser;
mod path;
mod pax;
mod reader;
mod spool;
#[cfg(test)]
mod tests;
mod top;
mod tree;
mod writer;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use spool::{Spool, SpoolWriter};

pub use files::Contents;

use crate::runner::frame::{DATA_CHUNK, Kind, encode_message, header};
use crate::runner::message::{FileHead, LinkHead};
pub use path::check_path;
pub use reader::ArchiveReader;
pub use spool::Frames;
pub use top::is_junk;
pub use writer::ProjectWriter;

/// Caps of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Sum of the files' sizes, and of everything after decompression, in bytes.
    pub bytes: u64,
    /// Files and folders, the ones that are only implied by a path among them.
    pub entries: u64,
    /// Components of a path.
    pub depth: usize,
}

/// A file or folder of a project; links are apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/` between components, no `.` or `..`, at most 4,096 bytes.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is. Nothing else is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// Mode 0755 instead of 0644.
        executable: bool,
    },
}

/// A project that was accepted: its entries, and its frames.
#[derive(Debug)]
pub struct Project {
    entries: Vec<Entry>,
    /// Symbolic links. They are no entries: nothing that looks for files sees them.
    links: Vec<LinkHead>,
    /// Sentences for the caller, such as that something was left out.
    notices: Vec<String>,
    /// The folder whose content is the project.
    top: Option<String>,
    /// How many there are, or were where they are not kept.
    count: u64,
    bytes: u64,
    spool: Spool,
    /// Where its frames go when they become many.
    folder: PathBuf,
}

impl Project {
    /// Its files and folders, in the order in which they came, each once. Folders that are only implied by a path are
    /// not among them.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many files and folders came, as far as that is known.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the files' sizes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory that it holds: the entries' names, and frames that are not in a file.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| entry.path.len() + size_of::<Entry>()).sum();
        let link = |link: &LinkHead| link.path.len() + link.target.len() + size_of::<LinkHead>();
        let links: usize = self.links.iter().map(link).sum();
        let frames = match self.spool.frames() {
            Frames::Memory(bytes) => bytes.len(),
            Frames::File(_) => 0,
        };
        entries + links + frames
    }

    /// Drops the entries, once it is known how the project starts: nobody needs their names while it waits.
    pub fn forget_entries(&mut self) {
        (self.entries, self.links) = (Vec::new(), Vec::new());
    }

    /// Whether the frames are in memory, where reading them takes no time.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self.spool, Spool::Memory(_))
    }

    /// Sentences for the caller about what was made of the upload; they are given out once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// `Dir`, `File`, `Data`, `Link` and `Lower` frames, ready to be sent to a runner.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        self.spool.frames()
    }

    /// SHA-256 of the frames, where somebody else keeps them: whoever sends them to a runner checks it.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        match &self.spool {
            Spool::Kept(_, sha256) => Some(*sha256),
            Spool::Memory(_) | Spool::Scratch(_) => None,
        }
    }

    /// A project that was accepted before, of `bytes` in all: its frames were kept. The entries are not; they were needed
    /// to find how it starts.
    #[must_use]
    pub fn kept(frames: PathBuf, sha256: [u8; 32], count: u64, bytes: u64) -> Self {
        Self { count, ..Self::of(Spool::Kept(frames, sha256), bytes, PathBuf::new()) }
    }

    /// The same from frames that are at hand; where they are many, they go to a new file in `spool`.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn restored(frames: &[u8], bytes: u64, spool: &Path) -> io::Result<Self> {
        let mut writer = SpoolWriter::new(spool);
        writer.write_all(frames)?;
        Ok(Self::of(writer.finish()?, bytes, spool.to_owned()))
    }

    /// Without what is known of its entries.
    fn of(spool: Spool, bytes: u64, folder: PathBuf) -> Self {
        let (entries, links, notices) = (Vec::new(), Vec::new(), Vec::new());
        Self { entries, links, notices, top: None, count: 0, bytes, spool, folder }
    }

    /// Adds a file that did not come with it, and is none of its entries.
    ///
    /// # Errors
    /// The spool's; and its frames are kept by somebody else.
    pub fn append(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        let mut head = Vec::new();
        let file = FileHead { path: path.to_owned(), size, executable: false };
        encode_message(Kind::File, &file, &mut head).map_err(io::Error::other)?;
        self.spool.append(&self.folder, |out| {
            out.write_all(&head)?;
            content.chunks(DATA_CHUNK).try_for_each(|chunk| {
                out.write_all(&header(Kind::Data, chunk.len()))?;
                out.write_all(chunk)
            })
        })?;
        (self.count, self.bytes) = (self.count + 1, self.bytes + size);
        Ok(())
    }
}

/// Why an archive was refused. The whole archive is, never a part of it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The caller's doing.
    #[error("{message}")]
    Refused {
        /// Stable word, for the error's `code`.
        code: RefusalCode,
        /// Names the entry (escaped) and the rule.
        message: String,
    },
    /// Our own disk.
    #[error("the upload could not be spooled: {0}")]
    Spool(#[from] io::Error),
}

impl ArchiveError {
    fn refused(code: RefusalCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }
}

/// The closed list of reasons for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// A name that leaves the workspace, or can't be one.
    BadPath,
    /// A device, FIFO or anything else that is no file, folder or link; a name that goes through a link.
    UnsupportedType,
    /// Sizes that two readers would understand differently.
    AmbiguousSize,
    /// Not a tar archive, cut short, or followed by something.
    BadArchive,
    /// Two entries of one name, or a file where a folder is needed.
    DuplicateEntry,
    /// Over the cap on bytes.
    TooLarge,
    /// Over the cap on entries.
    TooManyEntries,
    /// Compressed or packed in a way that is not taken.
    UnsupportedMediaType,
}

impl RefusalCode {
    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadPath => "bad_path",
            Self::UnsupportedType => "unsupported_type",
            Self::AmbiguousSize => "ambiguous_size",
            Self::BadArchive => "bad_archive",
            Self::DuplicateEntry => "duplicate_entry",
            Self::TooLarge => "archive_too_large",
            Self::TooManyEntries => "too_many_entries",
            Self::UnsupportedMediaType => "unsupported_media_type",
        }
    }
}
