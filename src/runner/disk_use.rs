//! What a workspace takes of a disk that is not its own, added up while hostile programs change it: everything by
//! descriptor, so that no link and no renamed folder leads elsewhere, and in slices, so that the runner stays awake.
//!
//! A file is counted once, however many names it has, and every name of it as an entry, as a tmpfs counts them. Files
//! that have no name any more count while a process holds them open.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};

/// Folders within one another. Each is a descriptor of ours while the walk is in it; deeper ones count as too many.
const MAX_DEPTH: usize = 256;
/// A folder's first block, which is not counted: a tmpfs does not, either, and entries are limited.
const FOLDER_BYTES: u64 = 4_096;
/// Mode of a folder that its owner can list and look into.
const OPEN_TO_OWNER: u32 = 0o500;
/// Unit of `st_blocks`.
const BLOCK: u64 = 512;
const LIST: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What a walk found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Something could not be looked at: a folder that its owner shut, the files of a process that made itself private.
    pub(super) hidden: bool,
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    device: u64,
    /// No more than this many are looked at.
    most_entries: u64,
    /// What a program shut is opened up. Only when none is left: it would notice.
    unlocks: bool,
    found: Use,
    /// Files and folders that were counted: one may be moved while we walk.
    seen: HashSet<u64>,
    folders: Vec<Folder>,
    /// `None` until the folders are done.
    processes: Option<std::vec::IntoIter<CString>>,
}

#[derive(Debug)]
struct Folder {
    folder: OwnedFd,
    names: std::vec::IntoIter<CString>,
}

impl Walk {
    /// A walk through this folder, and through what processes hold open.
    pub(super) fn new(root: BorrowedFd<'_>, most_entries: u64) -> nix::Result<Self> {
        Self::from(root, most_entries, false)
    }

    /// A walk through this folder when no process is left.
    pub(super) fn at_rest(root: BorrowedFd<'_>, most_entries: u64) -> nix::Result<Self> {
        Self::from(root, most_entries, true)
    }

    fn from(root: BorrowedFd<'_>, most_entries: u64, at_rest: bool) -> nix::Result<Self> {
        let mut walk = Self {
            device: fstat(root)?.st_dev,
            most_entries,
            unlocks: at_rest,
            found: Use::default(),
            seen: HashSet::new(),
            folders: Vec::new(),
            processes: at_rest.then(|| Vec::new().into_iter()),
        };
        let opened = walk.open(root, c".");
        walk.enter(opened);
        Ok(walk)
    }

    /// Goes on until then. `Some` when it is done.
    pub(super) fn step(&mut self, until: Instant) -> Option<Use> {
        while Instant::now() < until {
            if self.found.entries > self.most_entries {
                return Some(self.found);
            }
            if let Some(folder) = self.folders.last_mut() {
                match folder.names.next() {
                    Some(name) => self.entry(&name),
                    None => drop(self.folders.pop()),
                }
            } else if let Some(process) = self.processes.get_or_insert_with(processes).next() {
                self.process(&process);
            } else {
                return Some(self.found);
            }
        }
        None
    }

    /// All of it at once.
    pub(super) fn finish(mut self) -> Use {
        loop {
            let soon = Instant::now() + std::time::Duration::from_secs(1);
            if let Some(found) = self.step(soon) {
                return found;
            }
        }
    }

    fn entry(&mut self, name: &CStr) {
        let Some(Folder { folder, .. }) = self.folders.last() else { return };
        let stat = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_dev == self.device => stat,
            Err(Errno::EACCES) => return self.found.hidden = true,
            _ => return,
        };
        let is_new = self.count(&stat);
        self.found.entries += u64::from(is_new || stat.st_nlink > 1 && !is_folder(&stat));
        if is_new && is_folder(&stat) {
            let opened = self.folders.last().map(|parent| self.open(parent.folder.as_fd(), name));
            opened.into_iter().for_each(|opened| self.enter(opened));
        }
    }

    /// Adds what it takes, unless that was done before.
    fn count(&mut self, stat: &FileStat) -> bool {
        if !self.seen.insert(stat.st_ino) {
            return false;
        }
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
        let free = if is_folder(stat) { FOLDER_BYTES } else { 0 };
        self.found.bytes += bytes.saturating_sub(free);
        true
    }

    fn enter(&mut self, opened: nix::Result<Folder>) {
        match opened {
            Ok(_) if self.folders.len() == MAX_DEPTH => self.found.entries = u64::MAX,
            Ok(folder) => self.folders.push(folder),
            // It went away, or is another by now.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(_) => self.found.hidden = true,
        }
    }

    fn open(&self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<Folder> {
        if self.unlocks {
            let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if is_folder(&stat) && stat.st_mode & OPEN_TO_OWNER != OPEN_TO_OWNER {
                // Nobody is left who could put a link in its place.
                fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            }
        }
        let folder = openat(parent, name, LIST, Mode::empty())?;
        let names = names(&folder, self.most_entries)?.into_iter();
        Ok(Folder { folder, names })
    }

    /// Files without a name that one process holds. Threads may have descriptors of their own.
    fn process(&mut self, process: &CStr) {
        let path = [b"/proc/".as_slice(), process.to_bytes(), b"/task"].concat();
        let Ok(mut tasks) = Dir::open(path.as_slice(), LIST, Mode::empty()) else { return };
        let tasks: Vec<CString> = numbers(&mut tasks);
        for task in tasks {
            let path = [path.as_slice(), b"/", task.to_bytes(), b"/fd"].concat();
            match Dir::open(path.as_slice(), LIST, Mode::empty()) {
                Ok(mut files) => self.open_files(&mut files),
                Err(Errno::EACCES | Errno::EPERM) => self.found.hidden = true,
                // It has ended.
                Err(_) => {}
            }
        }
    }

    fn open_files(&mut self, files: &mut Dir) {
        for name in numbers(files) {
            if let Ok(stat) = fstatat(&*files, name.as_c_str(), AtFlags::empty())
                && stat.st_dev == self.device
                && stat.st_nlink == 0
            {
                self.found.entries += u64::from(self.count(&stat));
            }
        }
    }
}

fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR
}

/// Up to one more than may be there at all.
fn names(folder: &OwnedFd, most: u64) -> nix::Result<Vec<CString>> {
    let mut listing = Dir::openat(folder, c".", LIST, Mode::empty())?;
    let entries = listing.iter().flatten().map(|entry| entry.file_name().to_owned());
    let named = entries.filter(|name| name.as_c_str() != c"." && name.as_c_str() != c"..");
    Ok(named.take(usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX)).collect())
}

fn processes() -> std::vec::IntoIter<CString> {
    let listing = Dir::open(c"/proc", LIST, Mode::empty());
    listing.map(|mut listing| numbers(&mut listing)).unwrap_or_default().into_iter()
}

/// Names that are numbers.
fn numbers(listing: &mut Dir) -> Vec<CString> {
    let names = listing.iter().flatten().map(|entry| entry.file_name().to_owned());
    names.filter(|name| name.to_bytes().iter().all(u8::is_ascii_digit)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// Without the processes of this machine, which may hold files as they like.
    fn used(root: &Path) -> Use {
        Walk::at_rest(File::open(root).unwrap().as_fd(), 1_000).unwrap().finish()
    }

    /// With one process.
    fn used_with(root: &Path, process: u32) -> Use {
        let processes = vec![CString::new(process.to_string()).unwrap()].into_iter();
        let walk = Walk::new(File::open(root).unwrap().as_fd(), 1_000).unwrap();
        Walk { processes: Some(processes), ..walk }.finish()
    }

    fn fill(path: &Path, bytes: usize) -> File {
        let mut file = File::create(path).unwrap();
        file.write_all(&vec![1; bytes]).unwrap();
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn a_file_counts_once_and_each_of_its_names() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        fill(&root.path().join("a/b/file"), 8_192);
        assert_eq!((used(root.path()).bytes, used(root.path()).entries), (8_192, 3));
        std::fs::hard_link(root.path().join("a/b/file"), root.path().join("again")).unwrap();
        assert_eq!((used(root.path()).bytes, used(root.path()).entries), (8_192, 4));
        File::create(root.path().join("sparse")).unwrap().set_len(1 << 30).unwrap();
        assert_eq!((used(root.path()).bytes, used(root.path()).entries), (8_192, 5), "holes take nothing");
    }

    #[test]
    fn an_open_file_without_a_name_counts_and_a_closed_one_does_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("gone");
        let open = fill(&path, 40_960);
        std::fs::remove_file(&path).unwrap();
        let mut holder = std::process::Command::new("sleep").arg("60").stdout(open).spawn().unwrap();
        let held = used_with(root.path(), holder.id());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(held, Use { bytes: 40_960, entries: 1, hidden: false });
        assert_eq!(used_with(root.path(), holder.id()), Use::default());
    }

    #[test]
    fn links_are_never_followed() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(&other.path().join("far"), 40_960);
        std::os::unix::fs::symlink(other.path(), root.path().join("folder")).unwrap();
        std::os::unix::fs::symlink("..", root.path().join("up")).unwrap();
        assert_eq!((used(root.path()).bytes, used(root.path()).entries), (0, 2));
    }

    #[test]
    fn more_than_may_be_there_ends_the_walk_whether_wide_or_deep() {
        let root = tempfile::tempdir().unwrap();
        let walk = |most| Walk::at_rest(File::open(root.path()).unwrap().as_fd(), most).unwrap().finish();
        for number in 0..50 {
            fill(&root.path().join(number.to_string()), 1);
        }
        assert_eq!(walk(50).entries, 50);
        assert!(walk(49).entries > 49);
        let deep = vec!["d"; MAX_DEPTH].join("/");
        std::fs::create_dir_all(root.path().join(deep)).unwrap();
        assert!(walk(1_000).entries > 1_000);
    }

    #[test]
    fn a_folder_that_is_shut_is_opened_when_no_program_runs_and_others_stay_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let mode =
            |name: &str| std::fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o777;
        for (name, mode) in [("shut", 0o000), ("half", 0o400), ("open", 0o755)] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            fill(&folder.join("file"), 8_192);
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(used(root.path()), Use { bytes: 3 * 8_192, entries: 6, hidden: false });
        assert_eq!((mode("shut"), mode("half"), mode("open")), (0o700, 0o700, 0o755));
    }
}
