//! The workspace: files in, and whether it is full. No program of the user's runs while files come in.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

use nix::sys::statvfs::fstatvfs;

use crate::runner::BUILD_FOLDER;
use crate::runner::disk_watch::Taken;
use crate::runner::frame::Kind;
use crate::runner::incoming::Incoming;
use crate::runner::link::{Link, LinkError};
use crate::runner::user;

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
        let build_folder = root.join(BUILD_FOLDER);
        for folder in IN_BUILD_FOLDER {
            DirBuilder::new().mode(0o700).recursive(true).create(build_folder.join(folder))?;
        }
        user::write_names(&build_folder);
        let folder = File::open(&root)?;
        let taken_at_first = Taken::from(&fstatvfs(&folder)?);
        Ok(Self { root, folder, mode, on_disk, taken_at_first })
    }

    /// Takes all files until `Go`. `Some` is a sentence for the caller: the files do not fit.
    pub(super) fn receive(&self, link: &mut Link) -> Result<Option<String>, LinkError> {
        let mut incoming = Incoming::new(&self.root);
        loop {
            let done = link.receive(|frame| {
                match frame.kind {
                    Kind::Dir => incoming.dir(&serde_json::from_slice(frame.payload)?),
                    Kind::File => incoming.file(&serde_json::from_slice(frame.payload)?),
                    Kind::Data => incoming.data(frame.payload),
                    Kind::Link => incoming.link(serde_json::from_slice(frame.payload)?),
                    Kind::Lower => incoming.lower(serde_json::from_slice(frame.payload)?),
                    Kind::Unmark => incoming.unmark(serde_json::from_slice(frame.payload)?),
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
