//! The canonical form of a project: checked entries, and their frames in a spool file.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::links::LeftOut;
use super::path::{check_path, quoted};
use super::spool::{BUFFER, SpoolWriter};
use super::tree::{Added, Conflict, Tree};
use super::{ArchiveError, ArchiveLimits, Entry, EntryKind, Project, RefusalCode};
use crate::runner::frame::{DATA_CHUNK, Kind, encode_message, header};
use crate::runner::message::{FileHead, LinkHead};

/// Bytes of name that an entry may have on average. The entries' names stay in memory; this keeps them small
/// (2.5 MB for 10,000 entries) where the longest path alone would allow 40 MB.
const AVERAGE_PATH: u64 = 256;
/// Bytes of names that are always allowed.
const LEAST_NAMES: u64 = 1 << 20;
/// Bytes that an entry takes beside its name: in the list of entries, and as a node of the tree.
const ENTRY_BYTES: u64 = 160;

/// Makes a project from files that are at hand: inline files of a request, a folder on the command line. The archive
/// reader ends here too, so that one place holds the caps.
#[derive(Debug)]
pub struct ProjectWriter {
    limits: ArchiveLimits,
    pub(super) tree: Tree,
    entries: Vec<Entry>,
    pub(super) links: Vec<LinkHead>,
    /// Links that were left out.
    pub(super) left_out: LeftOut,
    /// Entries, repeated and implied ones included.
    count: u64,
    name_bytes: u64,
    /// Announced so far.
    bytes: u64,
    /// What the announced file still lacks.
    file_lacks: u64,
    /// What the open `Data` frame still lacks.
    frame_lacks: usize,
    message: Vec<u8>,
    pub(super) out: SpoolWriter,
}

impl ProjectWriter {
    /// Spools into a new file in `spool`, an existing folder.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn new(spool: &Path, limits: ArchiveLimits) -> Result<Self, ArchiveError> {
        Ok(Self {
            limits,
            tree: Tree::default(),
            entries: Vec::new(),
            links: Vec::new(),
            left_out: LeftOut::default(),
            count: 0,
            name_bytes: 0,
            bytes: 0,
            file_lacks: 0,
            frame_lacks: 0,
            message: Vec::new(),
            out: SpoolWriter::new(spool),
        })
    }

    /// Adds a folder. Parents need not be added first; a folder may come again; one `/` at the end is dropped.
    ///
    /// # Errors
    /// The path, a file of the same path, or the cap.
    pub fn dir(&mut self, path: &str) -> Result<(), ArchiveError> {
        self.add_dir(path.as_bytes())
    }

    /// Announces a file; exactly `size` bytes must follow by [`Self::data`].
    ///
    /// # Errors
    /// The path, an entry of the same path, or the cap, before any byte of it is read.
    pub fn file(&mut self, path: &str, size: u64, executable: bool) -> Result<(), ArchiveError> {
        self.add_file(path.as_bytes(), size, executable)
    }

    /// Adds content of the file that was announced last.
    ///
    /// # Errors
    /// More than was announced, or the disk.
    pub fn data(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        self.file_lacks = self
            .file_lacks
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| self.wrong_content("has more content than its size says"))?;
        let mut unframed = self.file_lacks + bytes.len() as u64 - self.frame_lacks as u64;
        while !bytes.is_empty() {
            if self.frame_lacks == 0 {
                // The size is known, so a frame's length is too: its bytes need not be gathered first.
                self.frame_lacks = usize::try_from(unframed).unwrap_or(usize::MAX).min(DATA_CHUNK);
                unframed -= self.frame_lacks as u64;
                self.out.write_all(&header(Kind::Data, self.frame_lacks))?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.frame_lacks));
            self.out.write_all(now)?;
            self.frame_lacks -= now.len();
            bytes = later;
        }
        Ok(())
    }

    /// The project is whole.
    ///
    /// # Errors
    /// The last file is short, or the disk.
    pub fn finish(self) -> Result<Project, ArchiveError> {
        self.check_whole()?;
        let count = (self.entries.len() + self.links.len()) as u64;
        let folder = self.out.folder().to_owned();
        let project = Project::of(self.out.finish()?, self.bytes, folder);
        let notices = self.left_out.told();
        Ok(Project { entries: self.entries, links: self.links, notices, count, ..project })
    }

    /// [`Self::dir`] for a name that need not be text.
    pub(super) fn add_dir(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.check_whole()?;
        if path == b"./" {
            // `tar -C project -c .` starts with it. The workspace is there anyway.
            return self.count(1);
        }
        let path = check_path(path.strip_suffix(b"/").unwrap_or(path), self.limits.depth)?;
        self.count(1)?;
        let added = self.tree.add_dir(&path).map_err(|conflict| duplicate(&path, &conflict))?;
        self.count(added.implied_dirs)?;
        if added == (Added { implied_dirs: 0, repeated: true }) {
            return Ok(());
        }
        self.emit(Kind::Dir, path, EntryKind::Dir)
    }

    /// [`Self::file`] for a name that need not be text.
    pub(super) fn add_file(&mut self, path: &[u8], size: u64, executable: bool) -> Result<(), ArchiveError> {
        self.check_whole()?;
        let path = self.check_path(path)?;
        self.count(1)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(self.too_large(&path, size));
        }
        let at = self.out.length();
        let added = self.tree.add_file(&path, at).map_err(|conflict| duplicate(&path, &conflict))?;
        self.count(added.implied_dirs)?;
        self.emit(Kind::File, path, EntryKind::File { size, executable })?;
        self.file_lacks = size;
        Ok(())
    }

    /// Bytes of memory that it holds by now.
    pub(super) fn memory_bytes(&self) -> usize {
        let names = self.name_bytes.saturating_add(self.count.saturating_mul(ENTRY_BYTES));
        usize::try_from(names).unwrap_or(usize::MAX).saturating_add(self.out.memory_bytes())
    }

    /// Bytes that the names of all entries can take, and the spool's buffer.
    pub(super) fn most_names(&self) -> usize {
        let entries = self.limits.entries.saturating_mul(ENTRY_BYTES);
        let names = self.most_name_bytes().saturating_add(entries);
        usize::try_from(names).unwrap_or(usize::MAX).saturating_add(BUFFER)
    }

    fn most_name_bytes(&self) -> u64 {
        LEAST_NAMES.max(self.limits.entries.saturating_mul(AVERAGE_PATH))
    }

    /// The entries so far.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn emit(&mut self, kind: Kind, path: String, entry: EntryKind) -> Result<(), ArchiveError> {
        self.count_name(&path)?;
        let (size, executable) = match entry {
            EntryKind::Dir => (0, false),
            EntryKind::File { size, executable } => (size, executable),
        };
        let head = FileHead { path, size, executable };
        self.write_message(kind, &head)?;
        self.entries.push(Entry { path: head.path, kind: entry });
        Ok(())
    }

    pub(super) fn write_message(&mut self, kind: Kind, message: &impl Serialize) -> Result<(), ArchiveError> {
        self.message.clear();
        encode_message(kind, message, &mut self.message).map_err(std::io::Error::other)?;
        Ok(self.out.write_all(&self.message)?)
    }

    pub(super) fn check_path(&self, path: &[u8]) -> Result<String, ArchiveError> {
        check_path(path, self.limits.depth)
    }

    pub(super) fn count_name(&mut self, name: &str) -> Result<(), ArchiveError> {
        self.name_bytes += name.len() as u64;
        if self.name_bytes <= self.most_name_bytes() {
            return Ok(());
        }
        let message = format!("the names are too long: over {AVERAGE_PATH} bytes each on average");
        Err(ArchiveError::refused(RefusalCode::TooManyEntries, message))
    }

    pub(super) fn count(&mut self, more: u64) -> Result<(), ArchiveError> {
        self.count += more;
        if self.count <= self.limits.entries {
            return Ok(());
        }
        let message = format!("there are more than {} files and folders, the limit", self.limits.entries);
        Err(ArchiveError::refused(RefusalCode::TooManyEntries, message))
    }

    pub(super) fn check_whole(&self) -> Result<(), ArchiveError> {
        if self.file_lacks == 0 {
            Ok(())
        } else {
            Err(self.wrong_content("has less content than its size says"))
        }
    }

    fn wrong_content(&self, rule: &str) -> ArchiveError {
        let path = self.entries.last().map(|entry| entry.path.as_bytes()).unwrap_or_default();
        ArchiveError::refused(RefusalCode::BadArchive, format!("the file {} {rule}", quoted(path)))
    }

    fn too_large(&self, path: &str, size: u64) -> ArchiveError {
        let (name, limit) = (quoted(path.as_bytes()), self.limits.bytes);
        let message =
            format!("the file {name} of {size} bytes takes the project over the limit of {limit} bytes");
        ArchiveError::refused(RefusalCode::TooLarge, message)
    }
}

pub(super) fn duplicate(path: &str, conflict: &Conflict) -> ArchiveError {
    let name = quoted(path.as_bytes());
    let message = match conflict {
        Conflict::FileTwice => format!("the file {name} comes twice"),
        Conflict::FileAndDir => format!("{name} needs one path to be both a file and a folder"),
        Conflict::ThroughLink => {
            let message =
                format!("the name {name} goes through a link of the project; pack what it leads to");
            return ArchiveError::refused(RefusalCode::UnsupportedType, message);
        }
    };
    ArchiveError::refused(RefusalCode::DuplicateEntry, message)
}
