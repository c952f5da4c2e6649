//! Room that is kept on the disk of the data folder, so that records can still be removed when the disk is full: even a
//! removal has to be written to the database's log before it frees anything.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// Name of the file that occupies the room.
const FILE: &str = "reserve";
/// Room that is kept: a commit of removals writes some pages for each of 200 records, and the log is folded into the
/// database at 4 MiB.
const MOST_BYTES: u64 = 8 << 20;
/// A small disk keeps this part of itself instead.
const PART_OF_DISK: u64 = 16;

/// The file that keeps the room.
#[derive(Debug)]
pub(super) struct Reserve {
    folder: PathBuf,
}

impl Reserve {
    /// Of this folder. Nothing is kept until [`Self::keep`].
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Bytes that are free on the disk for this process.
    pub(super) fn free(&self) -> io::Result<u64> {
        let disk = statvfs(&self.folder)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Bytes that are kept on this disk.
    fn size(&self) -> io::Result<u64> {
        let disk = statvfs(&self.folder)?;
        Ok(MOST_BYTES.min(disk.blocks().saturating_mul(disk.fragment_size()) / PART_OF_DISK))
    }

    /// Takes the room, where it is not taken and the disk has as much again.
    pub(super) fn keep(&self) -> io::Result<()> {
        let size = self.size()?;
        let kept = fs::metadata(self.path()).map_or(0, |file| file.len());
        if kept >= size || self.free()? < 2 * size {
            return Ok(());
        }
        let file = self.open()?;
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        // A file with holes would keep nothing.
        posix_fallocate(&file, 0, length).inspect_err(|_| drop(file.set_len(0)))?;
        Ok(())
    }

    /// Gives the room up.
    pub(super) fn release(&self) -> io::Result<()> {
        self.open()?.set_len(0)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_in_blocks_and_given_up() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(folder.path());
        reserve.keep().unwrap();
        let file = fs::metadata(reserve.path()).unwrap();
        assert_eq!(file.len(), reserve.size().unwrap());
        assert!(file.blocks() * 512 >= file.len(), "{} blocks", file.blocks());
        assert_eq!(file.mode() & 0o777, 0o600);
        reserve.release().unwrap();
        assert_eq!(fs::metadata(reserve.path()).unwrap().blocks(), 0);
        reserve.keep().unwrap();
        assert!(fs::metadata(reserve.path()).unwrap().len() > 0);
    }
}
