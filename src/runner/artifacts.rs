//! Files out: what the program left in the workspace, found by descriptor so that no link leads out of it. No
//! process of the user's runs any more.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};

use crate::archive::check_path;
use crate::runner::BUILD_FOLDER;
use crate::runner::frame::{DATA_CHUNK, Kind};
use crate::runner::incoming::MODIFIED_SECONDS;
use crate::runner::link::{Link, LinkError};
use crate::runner::message::{ArtifactSpec, FileHead};
use crate::runner::workspace::Workspace;

/// Components of a path; a folder that is deeper is not entered.
const MAX_DEPTH: usize = 32;
/// Notices about files that were left out; more are only counted.
const MAX_NOTICES: usize = 20;

/// The files of the workspace before the program ran: a hash of each one's path, with one of what tells whether it was
/// changed. There may be very many, and the memory is the program's. Under a random key, two do not meet.
pub(super) struct Snapshot {
    key: RandomState,
    stamps: HashMap<u64, u64>,
}

impl Snapshot {
    fn stamp(&self, found: &Found<'_>) -> (u64, u64) {
        let stat = &found.stat;
        // The kernel keeps the change time, which a program can't set.
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        (self.key.hash_one(found.path), self.key.hash_one((stat.st_ino, stat.st_size, modified, changed)))
    }

    fn has(&self, found: &Found<'_>) -> bool {
        let (path, stamp) = self.stamp(found);
        self.stamps.get(&path) == Some(&stamp)
    }
}

/// Notes every file, so that only new and changed ones come back. None, where files are asked for by name.
pub(super) fn snapshot(workspace: &Workspace, spec: &ArtifactSpec) -> Snapshot {
    let mut snapshot = Snapshot { key: RandomState::new(), stamps: HashMap::new() };
    if spec.globs.is_some() {
        return snapshot;
    }
    let mut walk = Walk::new(spec.max_entries);
    walk.folder(workspace.as_fd(), "", 0, &mut |found| {
        let (path, stamp) = snapshot.stamp(found);
        snapshot.stamps.insert(path, stamp);
        Ok(Visited::Done)
    })
    // Nothing is sent during this walk, so nothing can fail.
    .unwrap_or_default();
    snapshot
}

/// Sends what the program left. True when something is missing: over a cap, or because it could not be opened.
pub(super) fn send(
    workspace: &Workspace,
    spec: &ArtifactSpec,
    before: &Snapshot,
    link: &mut Link,
) -> Result<bool, LinkError> {
    workspace.unlock();
    let wanted = spec.globs.as_deref().map(globs);
    let mut room = Room { bytes: spec.max_bytes, count: spec.max_count, cut: false };
    let mut walk = Walk::new(spec.max_entries);
    walk.folder(workspace.as_fd(), "", 0, &mut |found| {
        let asked = match &wanted {
            Some(globs) => globs.is_match(found.path),
            None => !before.has(found),
        };
        if asked { send_file(found, &mut room, link) } else { Ok(Visited::Done) }
    })?;
    let complete = walk.complete;
    for notice in walk.notices() {
        link.queue(Kind::Notice, notice.as_bytes())?;
    }
    Ok(room.cut || !complete)
}

/// The globs were checked at the door; one that does not compile here matches nothing.
fn globs(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if let Ok(glob) = GlobBuilder::new(pattern).literal_separator(true).build() {
            set.add(glob);
        }
    }
    set.build().unwrap_or_default()
}

/// What the caps still leave.
struct Room {
    bytes: u64,
    count: u64,
    cut: bool,
}

fn send_file(found: &Found<'_>, room: &mut Room, link: &mut Link) -> Result<Visited, LinkError> {
    let mut file = match found.open() {
        Ok(file) => file,
        Err(errno) => return Ok(Visited::Unreadable(errno)),
    };
    let size = u64::try_from(found.stat.st_size).unwrap_or(0);
    if room.count == 0 || size > room.bytes {
        room.cut = true;
        return Ok(Visited::Done);
    }
    (room.count, room.bytes) = (room.count - 1, room.bytes - size);
    let executable = found.stat.st_mode & 0o100 != 0;
    link.queue_message(Kind::Artifact, &FileHead { path: found.path.to_owned(), size, executable })?;
    let mut buffer = vec![0; DATA_CHUNK];
    let mut left = size;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = file.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(std::io::Error::other("an artifact shrank while it was read").into());
        }
        link.queue(Kind::Data, &buffer[..count])?;
        left -= count as u64;
    }
    Ok(Visited::Done)
}

/// A regular file that the walk came to.
struct Found<'a> {
    folder: BorrowedFd<'a>,
    name: &'a std::ffi::CStr,
    path: &'a str,
    stat: FileStat,
}

impl Found<'_> {
    /// Opens exactly the file that was looked at.
    fn open(&self) -> nix::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = open_unlocking(self.folder, self.name, flags, Mode::S_IRUSR)?;
        let stat = fstat(&file)?;
        let same = stat.st_ino == self.stat.st_ino && is(&stat, SFlag::S_IFREG);
        if same { Ok(File::from(file)) } else { Err(Errno::ESTALE) }
    }
}

/// Opens a file or folder of our own; one whose mode shuts its owner out is opened up first.
fn open_unlocking(
    folder: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    flags: OFlag,
    mode: Mode,
) -> nix::Result<OwnedFd> {
    match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::EACCES) => {
            // The caller has seen that it is no link, and nobody is left who could swap it.
            fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink)?;
            openat(folder, name, flags, Mode::empty())
        }
        other => other,
    }
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind
}

/// A walk through the workspace.
struct Walk {
    /// Entries that may still be looked at.
    left: u64,
    complete: bool,
    skipped: Vec<String>,
    skipped_more: usize,
}

/// Result of a look at one file.
#[derive(Debug, PartialEq, Eq)]
enum Visited {
    Done,
    /// The file is there and can't be opened.
    Unreadable(Errno),
}

type Visit<'v> = dyn FnMut(&Found<'_>) -> Result<Visited, LinkError> + 'v;

impl Walk {
    fn new(max_entries: u64) -> Self {
        Self { left: max_entries, complete: true, skipped: Vec::new(), skipped_more: 0 }
    }

    /// Sentences about what was left out.
    fn notices(self) -> Vec<String> {
        let mut notices = self.skipped;
        if self.skipped_more > 0 {
            notices.push(format!("{} more files were left out of the artifacts", self.skipped_more));
        }
        notices
    }

    fn folder(
        &mut self,
        folder: BorrowedFd<'_>,
        prefix: &str,
        depth: usize,
        visit: &mut Visit<'_>,
    ) -> Result<(), LinkError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = match Dir::openat(folder, ".", flags, Mode::empty()) {
            Ok(listing) => listing,
            Err(errno) => {
                self.lose(prefix, errno);
                return Ok(());
            }
        };
        let mut names: Vec<std::ffi::CString> = Vec::new();
        for entry in listing.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.lose(prefix, errno);
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." || (depth == 0 && name.to_bytes() == BUILD_FOLDER.as_bytes()) {
                continue;
            }
            if self.left == 0 {
                self.complete = false;
                break;
            }
            self.left -= 1;
            names.push(name.to_owned());
        }
        names.sort();
        names.iter().try_for_each(|name| self.entry(folder, name, prefix, depth, visit))
    }

    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        prefix: &str,
        depth: usize,
        visit: &mut Visit<'_>,
    ) -> Result<(), LinkError> {
        let shown = format!("{prefix}{}", String::from_utf8_lossy(name.to_bytes()));
        let stat = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => {
                self.lose(&shown, errno);
                return Ok(());
            }
        };
        let folder_flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // The server holds names against the same policy, and would take a bad one for a broken runner.
        let path = [prefix.as_bytes(), name.to_bytes()].concat();
        if let Err(error) = check_path(&path, MAX_DEPTH) {
            self.skip(&shown, &error.to_string());
        } else if is(&stat, SFlag::S_IFREG) {
            if let Visited::Unreadable(errno) = visit(&Found { folder, name, path: &shown, stat })? {
                self.lose(&shown, errno);
            }
        } else if is(&stat, SFlag::S_IFLNK) && stat.st_mtime == MODIFIED_SECONDS {
            // It came with the project.
        } else if !is(&stat, SFlag::S_IFDIR) {
            self.skip(&shown, "it is no regular file");
        } else {
            match open_unlocking(folder, name, folder_flags, Mode::S_IRWXU) {
                Ok(inner) => self.folder(inner.as_fd(), &format!("{shown}/"), depth + 1, visit)?,
                Err(errno) => self.lose(&shown, errno),
            }
        }
        Ok(())
    }

    /// Notes a file or folder that can't be opened, whatever the cause: what it holds is missing.
    fn lose(&mut self, path: &str, errno: Errno) {
        self.complete = false;
        let path = if path.is_empty() { "the workspace" } else { path };
        self.skip(path, &format!("it could not be opened ({})", errno.desc()));
    }

    fn skip(&mut self, path: &str, why: &str) {
        if self.skipped.len() == MAX_NOTICES {
            self.skipped_more += 1;
            return;
        }
        let path: String = path.escape_debug().take(200).collect();
        self.skipped.push(format!("{path} was left out of the artifacts: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Walks through a folder; `visit` sees each file.
    fn walk(folder: &Path, visit: &mut Visit<'_>) -> (bool, Vec<String>) {
        let root = OwnedFd::from(File::open(folder).unwrap());
        let mut walk = Walk::new(100);
        walk.folder(root.as_fd(), "", 0, visit).unwrap();
        (walk.complete, walk.notices())
    }

    #[test]
    fn what_can_not_be_opened_is_told_and_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/file"), "x").unwrap();
        std::fs::write(folder.path().join("whole"), "x").unwrap();
        let opened = walk(folder.path(), &mut |found| {
            Ok(found.open().map_or_else(Visited::Unreadable, |_| Visited::Done))
        });
        assert_eq!(opened, (true, vec![]));
        // Somebody has put another file in the place of the one that was looked at.
        let swapped = walk(folder.path(), &mut |found| {
            let (path, name) = (folder.path().join(found.path), found.path);
            if name == "sub/file" {
                std::fs::rename(folder.path().join("whole"), path).unwrap();
            }
            Ok(found.open().map_or_else(Visited::Unreadable, |_| Visited::Done))
        });
        let (complete, notices) = swapped;
        assert!(!complete, "{notices:?}");
        assert_eq!(
            notices,
            [
                "sub/file was left out of the artifacts: it could not be opened (Stale file handle)",
                "whole was left out of the artifacts: it could not be opened (No such file or directory)",
            ]
        );
    }

    #[test]
    fn a_folder_that_can_not_be_listed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let file = OwnedFd::from(File::open(folder.path().join("file")).unwrap());
        let mut walk = Walk::new(100);
        walk.folder(file.as_fd(), "", 0, &mut |_| Ok(Visited::Done)).unwrap();
        assert!(!walk.complete);
        assert_eq!(
            walk.notices(),
            ["the workspace was left out of the artifacts: it could not be opened (Not a directory)"]
        );
    }
}
