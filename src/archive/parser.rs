//! The tar format as a state machine over pieces of any size. Holds one block, or one extended header of at most
//! 64 KiB; content goes straight on to the [`ProjectWriter`].

use super::compression::foreign_format;
use super::header::{BLOCK, Header, Type, unsupported};
use super::path::quoted;
use super::pax::Pax;
use super::{ArchiveError, EntryKind, Project, ProjectWriter, RefusalCode};

/// Longest long name or PAX header, in bytes.
const MAX_METADATA: u64 = 64 << 10;

/// Reads a tar archive and writes a project.
#[derive(Debug)]
pub(super) struct TarParser {
    state: State,
    /// The block that is being gathered, and how much of it is there.
    block: [u8; BLOCK],
    gathered: usize,
    /// The extended header that is being gathered.
    metadata: Vec<u8>,
    /// What was said in advance about the next entry.
    announced: Announced,
    /// An extended header was the last thing, so an entry must follow.
    needs_entry: bool,
    /// Bytes read so far.
    position: u64,
    writer: ProjectWriter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// One block of zeros was there: the second must follow.
    HalfEnd,
    Metadata {
        kind: Type,
        lacks: usize,
        padding: usize,
    },
    Content {
        lacks: u64,
        padding: usize,
    },
    Padding {
        lacks: usize,
    },
    /// Both blocks of zeros were there: only zeros may follow.
    End,
}

#[derive(Debug, Default)]
struct Announced {
    name: Option<Vec<u8>>,
    /// Of a link.
    target: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Announced {
    /// Whether this kind of header may come beside those that were there.
    fn has_room_for(&self, kind: Type) -> bool {
        let (name, target) = (self.name.is_none(), self.target.is_none());
        self.pax.is_none()
            && match kind {
                Type::LongName => name,
                Type::LongTarget => target,
                _ => name && target,
            }
    }
}

impl TarParser {
    /// Bytes of memory that it holds by now.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.metadata.capacity() + self.writer.memory_bytes()
    }

    /// Bytes that the names of all entries can take.
    pub(super) fn most_names(&self) -> usize {
        self.writer.most_names()
    }

    pub(super) fn new(writer: ProjectWriter) -> Self {
        Self {
            state: State::Header,
            block: [0; BLOCK],
            gathered: 0,
            metadata: Vec::new(),
            announced: Announced::default(),
            needs_entry: false,
            position: 0,
            writer,
        }
    }

    /// Takes the next bytes of the archive.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let taken = self.step(bytes)?;
            self.position += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The archive is over.
    pub(super) fn finish(self) -> Result<Project, ArchiveError> {
        if self.position == 0 {
            return Err(bad("the archive is empty"));
        }
        if self.state != State::End {
            return Err(foreign_format(&self.block[..self.gathered])
                .filter(|_| self.is_first_block())
                .unwrap_or_else(|| bad("the archive is cut short: its end mark is missing")));
        }
        if !self.writer.entries().iter().any(|entry| matches!(entry.kind, EntryKind::File { .. })) {
            return Err(bad("the archive has no files"));
        }
        self.writer.finish()
    }

    /// Takes some of the bytes, at least one.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        match self.state {
            State::Header | State::HalfEnd => self.gather_block(bytes),
            State::Metadata { kind, lacks, padding } => {
                let taken = lacks.min(bytes.len());
                self.metadata.extend_from_slice(&bytes[..taken]);
                self.state = State::Metadata { kind, lacks: lacks - taken, padding };
                if taken == lacks {
                    self.state = padding_state(padding);
                    self.take_metadata(kind)?;
                }
                Ok(taken)
            }
            State::Content { lacks, padding } => {
                let taken = usize::try_from(lacks).unwrap_or(usize::MAX).min(bytes.len());
                self.writer.data(&bytes[..taken])?;
                let lacks = lacks - taken as u64;
                self.state =
                    if lacks > 0 { State::Content { lacks, padding } } else { padding_state(padding) };
                Ok(taken)
            }
            State::Padding { lacks } => {
                let taken = lacks.min(bytes.len());
                self.state = padding_state(lacks - taken);
                Ok(taken)
            }
            State::End if is_zero(bytes) => Ok(bytes.len()),
            State::End => Err(bad("the archive is followed by something after its end mark")),
        }
    }

    fn gather_block(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let taken = bytes.len().min(BLOCK - self.gathered);
        self.block[self.gathered..self.gathered + taken].copy_from_slice(&bytes[..taken]);
        self.gathered += taken;
        if self.gathered == BLOCK {
            self.take_block()?;
            self.gathered = 0;
        }
        Ok(taken)
    }

    fn take_block(&mut self) -> Result<(), ArchiveError> {
        if is_zero(&self.block) {
            if self.needs_entry {
                return Err(bad("the archive ends after an extended header, without its entry"));
            }
            self.state = if self.state == State::HalfEnd { State::End } else { State::HalfEnd };
            return Ok(());
        }
        if self.state == State::HalfEnd {
            return Err(bad("the archive goes on after a block of zeros"));
        }
        let header = Header::read(self.block).map_err(|fault| self.bad_header(fault))?;
        if header.is_metadata() { self.start_metadata(&header) } else { self.start_entry(&header) }
    }

    fn start_metadata(&mut self, header: &Header) -> Result<(), ArchiveError> {
        let kind = header.entry_type(b"")?;
        if !self.announced.has_room_for(kind) {
            return Err(bad("two extended headers in a row are for one entry"));
        }
        self.needs_entry = true;
        header.check_fields().map_err(|fault| self.bad_header(fault))?;
        let size = header.size()?;
        if size > MAX_METADATA {
            return Err(bad(format!(
                "an extended header has {size} bytes; at most {MAX_METADATA} are taken"
            )));
        }
        self.metadata.clear();
        let lacks = usize::try_from(size).unwrap_or_default();
        self.state = State::Metadata { kind, lacks, padding: padding_of(size) };
        if lacks == 0 {
            self.state = State::Header;
            self.take_metadata(kind)?;
        }
        Ok(())
    }

    fn take_metadata(&mut self, kind: Type) -> Result<(), ArchiveError> {
        if matches!(kind, Type::LongName | Type::LongTarget) {
            let Some(name) = self.metadata.strip_suffix(b"\0") else {
                // Some readers would go on to the next NUL, beyond the size.
                return Err(bad("a long name does not end with a NUL"));
            };
            let name = Some(name.to_vec());
            if kind == Type::LongName {
                self.announced.name = name;
            } else {
                self.announced.target = name;
            }
            return Ok(());
        }
        let pax = Pax::read(&self.metadata)?;
        if kind == Type::Pax {
            self.announced.pax = Some(pax);
        } else if pax.is_significant() {
            return Err(bad("a global PAX header sets a path, a size or a link"));
        }
        Ok(())
    }

    fn start_entry(&mut self, header: &Header) -> Result<(), ArchiveError> {
        let Announced { name, target, pax } = std::mem::take(&mut self.announced);
        let pax = pax.unwrap_or_default();
        let (name, target) = (name.or(pax.path), target.or(pax.target));
        self.needs_entry = false;
        let kind = header.entry_type(name.as_ref().unwrap_or(&header.shown_name()))?;
        header.check_fields().map_err(|fault| self.bad_header(fault))?;
        let name = name.map_or_else(|| header.name(), Ok)?;
        if let Some(what) = pax.unsupported {
            return Err(unsupported(&name, what));
        }
        let size = header.size()?;
        if pax.size.is_some_and(|other| other != size) {
            return Err(ambiguous(&name, "its two headers differ"));
        }
        let is_link = matches!(kind, Type::HardLink | Type::Symlink);
        if target.is_some() && !is_link {
            return Err(unsupported(&name, "a link to some readers and none to others"));
        }
        if kind == Type::Dir || is_link {
            if size != 0 {
                let what = if is_link { "a link has no content" } else { "a folder has no content" };
                return Err(ambiguous(&name, what));
            }
            let target = || target.map_or_else(|| header.target(), Ok);
            return match kind {
                Type::HardLink => self.writer.add_hard_link(&name, &target()?),
                Type::Symlink => self.writer.add_link(&name, &target()?),
                _ => self.writer.add_dir(&name),
            };
        }
        if size > 0 {
            self.state = State::Content { lacks: size, padding: padding_of(size) };
        }
        self.writer.add_file(&name, size, header.executable())
    }

    fn bad_header(&self, fault: &str) -> ArchiveError {
        if self.is_first_block() {
            return foreign_format(&self.block)
                .unwrap_or_else(|| bad(format!("this is not a tar archive: its first block {fault}")));
        }
        let before = self.writer.entries().last().map(|entry| quoted(entry.path.as_bytes()));
        let place = before.map_or_else(String::new, |name| format!(", after {name},"));
        bad(format!("the header of an entry{place} {fault}"))
    }

    fn is_first_block(&self) -> bool {
        self.position < BLOCK as u64
    }
}

fn padding_state(lacks: usize) -> State {
    if lacks > 0 { State::Padding { lacks } } else { State::Header }
}

/// Bytes from the end of `size` bytes of content to the next block.
fn padding_of(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK).all(|chunk| *chunk == [0; BLOCK][..chunk.len()])
}

fn bad(message: impl Into<String>) -> ArchiveError {
    ArchiveError::refused(RefusalCode::BadArchive, message)
}

fn ambiguous(name: &[u8], why: &str) -> ArchiveError {
    let message = format!("the size of {} is ambiguous: {why}", quoted(name));
    ArchiveError::refused(RefusalCode::AmbiguousSize, message)
}
