//! Where a project's frames are kept between the request and the runner: in memory while they are few, else in a file.

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Seek, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::{NamedTempFile, TempPath};

use crate::failpoint;
use crate::runner::frame::{DATA_CHUNK, HEADER};

/// Frames of at most so many bytes stay in memory: most programs that people type, and with 10,000 of them waiting no
/// more than 40 MB.
const SMALL: usize = 4 << 10;

/// Two whole frames: with less, each header would be a write of its own.
pub(super) const BUFFER: usize = 2 * (DATA_CHUNK + HEADER);

/// A project's frames.
#[derive(Debug)]
pub(super) enum Spool {
    Memory(Bytes),
    /// In a file that goes when this is dropped.
    Scratch(TempPath),
    /// In a file that somebody else keeps, with the SHA-256 of its content.
    Kept(PathBuf, [u8; 32]),
}

/// A project's frames, to be read.
#[derive(Debug, Clone, Copy)]
pub enum Frames<'a> {
    /// They are here.
    Memory(&'a Bytes),
    /// They are in this file.
    File(&'a Path),
}

impl Spool {
    pub(super) fn frames(&self) -> Frames<'_> {
        match self {
            Self::Memory(bytes) => Frames::Memory(bytes),
            Self::Scratch(path) => Frames::File(path),
            Self::Kept(path, _) => Frames::File(path),
        }
    }

    /// To be read here and there.
    pub(super) fn open(&self) -> io::Result<Box<dyn ReadSeek + '_>> {
        Ok(match self.frames() {
            Frames::Memory(bytes) => Box::new(Cursor::new(bytes.as_ref())),
            Frames::File(path) => Box::new(File::open(path)?),
        })
    }

    /// Adds frames. What does not stay in memory goes to a new file in this folder.
    pub(super) fn append(
        &mut self,
        folder: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let mut writer = SpoolWriter::new(folder);
                writer.write_all(bytes)?;
                write(&mut writer)?;
                *self = writer.finish()?;
                Ok(())
            }
            Self::Scratch(path) => {
                let mut file = BufWriter::with_capacity(BUFFER, File::options().append(true).open(path)?);
                write(&mut file)?;
                file.flush()
            }
            Self::Kept(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Frames that need not be read in order.
pub(super) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

impl<'a> Frames<'a> {
    /// To be read piece by piece.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(self) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(bytes.as_ref()),
            Self::File(path) => Box::new(File::open(path)?),
        })
    }

    /// All of them.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Takes frames until they are whole.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    folder: PathBuf,
    memory: Vec<u8>,
    file: Option<BufWriter<NamedTempFile>>,
    /// Bytes so far.
    length: u64,
}

impl SpoolWriter {
    /// What does not stay in memory goes to a new file in this folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), memory: Vec::new(), file: None, length: 0 }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes so far: where the next frame begins.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads what was written before, all of `into`.
    pub(super) fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
            return file.get_ref().as_file().read_exact_at(into, at);
        }
        let start = usize::try_from(at).map_err(io::Error::other)?;
        let there = self.memory.get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Bytes of memory that it holds by now.
    pub(super) fn memory_bytes(&self) -> usize {
        if self.file.is_some() { BUFFER } else { self.memory.capacity() }
    }

    pub(super) fn finish(self) -> io::Result<Spool> {
        let Some(file) = self.file else { return Ok(Spool::Memory(self.memory.into())) };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        failpoint::pass("spool.written");
        Ok(Spool::Scratch(file.into_temp_path()))
    }

    fn spill(&mut self) -> io::Result<&mut BufWriter<NamedTempFile>> {
        let file = NamedTempFile::new_in(&self.folder)?;
        failpoint::pass("spool.created");
        let mut file = BufWriter::with_capacity(BUFFER, file);
        file.write_all(&std::mem::take(&mut self.memory))?;
        Ok(self.file.insert(file))
    }
}

impl Write for SpoolWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.file {
            Some(file) => file.write(bytes)?,
            None if self.memory.len() + bytes.len() > SMALL => self.spill()?.write(bytes)?,
            None => {
                self.memory.extend_from_slice(bytes);
                bytes.len()
            }
        };
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_stay_in_memory_and_many_are_a_file_until_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        for (length, in_file) in [(0, 0), (SMALL, 0), (SMALL + 1, 1), (3 * DATA_CHUNK, 1)] {
            let content: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let mut writer = SpoolWriter::new(folder.path());
            for piece in content.chunks(1_000) {
                writer.write_all(piece).unwrap();
            }
            let spool = writer.finish().unwrap();
            assert_eq!(files(), in_file, "{length}");
            let read = spool.frames().read().unwrap();
            assert_eq!(read.len(), length);
            assert_eq!(read, content);
            drop(spool);
            assert_eq!(files(), 0);
        }
    }
}
