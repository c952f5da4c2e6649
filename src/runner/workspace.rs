//! The workspace: files in, and whether it is full. No program of the user's runs while files come in.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

use crate::runner::BUILD_FOLDER;
use crate::runner::disk_watch::Taken;
use crate::runner::frame::Kind;
use crate::runner::link::{Link, LinkError};
use crate::runner::message::FileHead;

/// When every file that goes in was changed last: the same for all, so that a build tool sees nothing as stale, and
/// long ago, so that any later write shows. 2000-01-01T00:00:00Z in seconds.
const MODIFIED_SECONDS: u64 = 946_684_800;
/// Folders that programs expect: their HOME, and TMPDIR.
const IN_BUILD_FOLDER: [&str; 2] = ["home", "tmp"];
/// Files and folders.
const FEW: u64 = 256;

/// The folder, held open so that nothing the program does to its name or mode keeps us out.
#[derive(Debug)]
pub(super) struct Workspace {
    root: PathBuf,
    folder: File,
    /// Who may look into it.
    mode: u32,
    /// On a disk that is not its own.
    on_disk: bool,
    /// What was taken of its file system before anything of it was there.
    pub(super) taken_at_first: Taken,
}

impl Workspace {
    pub(super) fn open(root: &str, on_disk: bool, shared: bool) -> io::Result<Self> {
        let root = PathBuf::from(root);
        // The tmpfs option for the mode has no effect where the image lacks the folder.
        let mode = if shared { 0o755 } else { 0o700 };
        std::fs::set_permissions(&root, Permissions::from_mode(mode))?;
        for folder in IN_BUILD_FOLDER {
            DirBuilder::new().mode(0o700).recursive(true).create(root.join(BUILD_FOLDER).join(folder))?;
        }
        let folder = File::open(&root)?;
        let taken_at_first = Taken::from(&fstatvfs(&folder)?);
        Ok(Self { root, folder, mode, on_disk, taken_at_first })
    }

    /// Takes all files until `Go`. `Some` is a sentence for the caller: the files do not fit.
    pub(super) fn receive(&self, link: &mut Link) -> Result<Option<String>, LinkError> {
        let mut incoming = Incoming { root: &self.root, file: None, error: None };
        loop {
            let done = link.receive(|frame| {
                match frame.kind {
                    Kind::Dir => incoming.dir(&serde_json::from_slice(frame.payload)?),
                    Kind::File => incoming.file(&serde_json::from_slice(frame.payload)?),
                    Kind::Data => incoming.data(frame.payload),
                    Kind::Go => return Ok(true),
                    other => return Err(LinkError::OutOfTurn(other)),
                }
                Ok(false)
            })?;
            if done {
                return incoming.finish(self.on_disk).map_err(LinkError::Io);
            }
        }
    }

    /// Looking at all that is in it takes no time to speak of. One on disk is not asked.
    pub(super) fn has_few_entries(&self) -> bool {
        !self.on_disk && fstatvfs(&self.folder).is_ok_and(|disk| Taken::from(&disk).entries() <= FEW)
    }

    /// Open it to the runner again, whatever the program did to it.
    pub(super) fn unlock(&self) {
        // Only the owner can be locked out, and we are the owner; a failure shows when it is read.
        let _ = self.folder.set_permissions(Permissions::from_mode(self.mode));
    }
}

impl AsFd for Workspace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Writes files until the first error, then reads on to the end, so that the server is not left waiting.
struct Incoming<'a> {
    root: &'a Path,
    file: Option<File>,
    error: Option<(String, io::Error)>,
}

impl Incoming<'_> {
    fn attempt(&mut self, path: &str, step: impl FnOnce(&Path) -> io::Result<Option<File>>) {
        if self.error.is_some() {
            return;
        }
        match step(&self.root.join(path)) {
            Ok(file) => self.file = file,
            Err(error) => self.error = Some((path.to_owned(), error)),
        }
    }

    /// The file that came last is whole.
    fn seal(&mut self) {
        if let Some(file) = self.file.take() {
            self.attempt("", |_| {
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS))?;
                Ok(None)
            });
        }
    }

    fn dir(&mut self, head: &FileHead) {
        self.seal();
        self.attempt(&head.path, |path| make_folder(path).map(|()| None));
    }

    fn file(&mut self, head: &FileHead) {
        self.seal();
        self.attempt(&head.path, |path| {
            if let Some(parent) = path.parent() {
                make_folder(parent)?;
            }
            let mode = if head.executable { 0o755 } else { 0o644 };
            Ok(Some(OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?))
        });
    }

    fn data(&mut self, bytes: &[u8]) {
        let Some(mut file) = self.file.take() else { return };
        self.attempt("", |_| {
            file.write_all(bytes)?;
            Ok(Some(file))
        });
    }

    /// A disk that is not the workspace's own is full by nobody's doing that we know.
    fn finish(mut self, on_disk: bool) -> io::Result<Option<String>> {
        self.seal();
        match self.error {
            None => Ok(None),
            Some((path, error)) if no_room(&error) && !on_disk => {
                let at = if path.is_empty() { String::new() } else { format!(" at {}", path.escape_debug()) };
                Ok(Some(format!(
                    "the project does not fit in the workspace ({error}{at}); raise config.disk_mb"
                )))
            }
            Some((_, error)) => Err(error),
        }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).recursive(true).create(path)
}

fn no_room(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(number, Some(Errno::ENOSPC | Errno::EFBIG | Errno::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str, executable: bool) -> FileHead {
        FileHead { path: path.into(), size: 3, executable }
    }

    #[test]
    fn files_come_in_with_their_folders_mode_and_one_old_time() {
        let root = tempfile::tempdir().unwrap();
        let mut incoming = Incoming { root: root.path(), file: None, error: None };
        incoming.dir(&head("empty", false));
        incoming.file(&head("a/b/run.sh", true));
        incoming.data(b"abc");
        incoming.data(b"def");
        assert_eq!(incoming.finish(false).unwrap(), None);
        let file = root.path().join("a/b/run.sh");
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"abcdef");
        assert_eq!(meta.permissions().mode() & 0o777, 0o755);
        assert_eq!(meta.modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS));
        assert!(root.path().join("empty").is_dir());
    }

    #[test]
    fn a_full_workspace_is_the_callers_to_mend_and_anything_else_is_ours() {
        let full = io::Error::from(Errno::ENOSPC);
        let incoming = Incoming { root: Path::new("/"), file: None, error: Some(("x".into(), full)) };
        assert!(incoming.finish(false).unwrap().unwrap().contains("config.disk_mb"));
        let broken = io::Error::from(Errno::EIO);
        let incoming = Incoming { root: Path::new("/"), file: None, error: Some(("x".into(), broken)) };
        assert!(incoming.finish(false).is_err());
        let full = io::Error::from(Errno::ENOSPC);
        let incoming = Incoming { root: Path::new("/"), file: None, error: Some(("x".into(), full)) };
        assert!(incoming.finish(true).is_err(), "the whole disk is full");
    }
}
