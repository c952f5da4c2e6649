//! The data folder: one server at a time, with scratch that is emptied at start.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};

use crate::failpoint;

/// Name of the file whose lock a server holds.
const LOCK: &str = "lock";
/// Tries to take it before another server is taken to have it, and the time between two.
const LOCK_TRIES: u32 = 4;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// The least that a file system hands out, in bytes.
const BLOCK: usize = 4096;
/// Files that a folder with room takes at once.
const ROOM: usize = 16;

/// The data folder, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    instance: String,
    /// Held for its lock, which the kernel drops with the process.
    _lock: File,
}

/// Why the data folder can't be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another server has it.
    #[error("another execbox server uses the data folder {0}; stop it, or give this one its own --data-dir")]
    Locked(PathBuf),
    /// It can't be made or written.
    #[error("the data folder {path} can't be used ({error}); give a writable one with --data-dir")]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Lets this process make files that only their owner may read, whatever the caller's umask says. For a process that writes
/// nothing but the data folder.
pub fn keep_files_private() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Whether a server uses this folder at present. Leaves no trace: a folder that is none stays as it is.
///
/// # Errors
/// The lock can't be looked at.
pub fn is_in_use(root: &Path) -> io::Result<bool> {
    let lock = match File::open(root.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock. Somebody who only looks whether it is taken has it for a moment.
#[allow(clippy::disallowed_methods, reason = "a start that can do nothing else meanwhile")]
fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    file.try_lock()
}

/// What this program makes in a data folder.
const OWN: [&str; 10] = [
    LOCK,
    "instance",
    "reserve",
    "execbox.db",
    "execbox.db-wal",
    "execbox.db-shm",
    "blobs",
    "spool",
    "scratch",
    "trash",
];

/// Shuts what an earlier version left open to others: its own files and folders, and the data folder itself where nothing
/// else is in it. Whatever somebody else keeps there stays as it is.
fn shut(root: &Path) -> io::Result<()> {
    let names = fs::read_dir(root)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    let (own, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| OWN.iter().any(|own| name.as_os_str() == *own));
    let all = others.is_empty().then(|| root.to_owned());
    for path in own.iter().map(|name| root.join(name)).chain(all) {
        match shut_one(&path) {
            // Another process has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn shut_one(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() || metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

impl DataDir {
    /// Makes the folder where it is missing, locks it, and removes what an earlier server left in scratch.
    ///
    /// # Errors
    /// It is in use, or can't be written.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        let unusable = |error| DataDirError::Unusable { path: root.to_owned(), error };
        fs::create_dir_all(root).map_err(unusable)?;
        let file = File::create(root.join(LOCK)).map_err(unusable)?;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::Locked(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let instance = instance(&root.join("instance")).map_err(unusable)?;
        shut(root).map_err(unusable)?;
        let data = Self { root: root.to_owned(), instance, _lock: file };
        for folder in [data.spool(), data.scratch(), data.trash()] {
            // No record names what is here.
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
                _ => fs::create_dir_all(&folder).map_err(unusable)?,
            }
        }
        failpoint::pass("start.folders");
        Ok(data)
    }

    /// Names this folder for as long as it exists, so that a later server on it finds what an earlier one left.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Where uploads are spooled.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Where attempts leave their artifacts until the execution finishes, a folder for each execution.
    fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Where files lie that records name.
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where files wait for their removal.
    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// The folder of one attempt. Made, with its parents, by whoever has something to put into it.
    #[must_use]
    pub fn attempt_dir(&self, execution: &str, attempt: u32) -> PathBuf {
        self.scratch().join(execution).join(attempt.to_string())
    }

    /// Whether attempts of an execution have left something.
    #[must_use]
    pub fn has_scratch(&self, execution: &str) -> bool {
        self.scratch().join(execution).exists()
    }

    /// Removes the folders of an execution's attempts.
    ///
    /// # Errors
    /// Something of it could not be removed.
    pub fn remove(&self, execution: &str) -> io::Result<()> {
        failpoint::pass("scratch.remove");
        let removed = fs::remove_dir_all(self.scratch().join(execution));
        failpoint::pass("scratch.removed");
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether this folder takes some more files. A full disk lets files be made, but not written; and the one or two that an
/// attempt gave up when it failed for want of room are no room for the next.
///
/// # Errors
/// It does not.
pub fn check_room(folder: &Path) -> io::Result<()> {
    let file = |_| {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&[0; BLOCK])?;
        Ok(file)
    };
    (0..ROOM).map(file).collect::<io::Result<Vec<File>>>().map(drop)
}

/// The name in this file, made first where it is missing.
fn instance(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(name) if uuid::Uuid::try_parse(&name).is_ok() => Ok(name),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let name = uuid::Uuid::new_v4().to_string();
            fs::write(file, &name)?;
            Ok(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused_and_scratch_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        assert!(matches!(DataDir::open(folder.path()), Err(DataDirError::Locked(_))));
        let attempt = first.attempt_dir("exe_x", 1);
        fs::create_dir_all(&attempt).unwrap();
        fs::write(attempt.join("left"), "over").unwrap();
        let instance = first.instance().to_owned();
        drop(first);
        let second = DataDir::open(folder.path()).unwrap();
        assert_eq!(second.instance(), instance);
        assert!(!attempt.exists());
        second.remove("exe_x").unwrap();
    }

    #[test]
    fn only_own_files_are_shut() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempfile::tempdir().unwrap();
        let (tool, blobs) = (folder.path().join("tool.sh"), folder.path().join("blobs"));
        fs::write(&tool, "").unwrap();
        fs::create_dir(&blobs).unwrap();
        for path in [&tool, &blobs, folder.path()] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        shut(folder.path()).unwrap();
        assert_eq!((mode(&tool), mode(&blobs), mode(folder.path())), (0o755, 0o700, 0o755));
        fs::remove_file(&tool).unwrap();
        shut(folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o700, "nothing else is in it");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let message = DataDir::open(&path).unwrap_err().to_string();
        assert!(message.contains("--data-dir"), "{message}");
    }
}
