//! Files as they come in, and what is done once all are there: a folder's content moves up, links are made.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::runner::BUILD_FOLDER;
use crate::runner::message::{BYTE_ORDER_MARK, FileHead, LinkHead, Lower, Unmark};

/// When every file that goes in was changed last: the same for all, so that a build tool sees nothing as stale, and
/// long ago, so that any later write shows. 2000-01-01T00:00:00Z in seconds.
pub(super) const MODIFIED_SECONDS: i64 = 946_684_800;

/// Writes files until the first error, then reads on to the end, so that the server is not left waiting.
pub(super) struct Incoming<'a> {
    root: &'a Path,
    file: Option<File>,
    /// Nothing of the file's content has come.
    fresh: bool,
    links: Vec<LinkHead>,
    marked: Vec<Unmark>,
    lower: Option<Lower>,
    error: Option<(String, io::Error)>,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        let (links, marked) = (Vec::new(), Vec::new());
        Self { root, file: None, fresh: false, links, marked, lower: None, error: None }
    }

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
                file.set_modified(long_ago())?;
                Ok(None)
            });
        }
    }

    pub(super) fn dir(&mut self, head: &FileHead) {
        self.seal();
        self.attempt(&head.path, |path| make_folder(path).map(|()| None));
    }

    pub(super) fn file(&mut self, head: &FileHead) {
        self.seal();
        self.fresh = true;
        self.attempt(&head.path, |path| {
            if let Some(parent) = path.parent() {
                make_folder(parent)?;
            }
            let mode = if head.executable { 0o755 } else { 0o644 };
            Ok(Some(OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?))
        });
    }

    pub(super) fn data(&mut self, bytes: &[u8]) {
        let Some(mut file) = self.file.take() else { return };
        let is_script = std::mem::take(&mut self.fresh) && bytes.starts_with(b"#!");
        self.attempt("", |_| {
            if is_script {
                // Neither JSON nor Windows can say that a file is executable.
                file.set_permissions(Permissions::from_mode(0o755))?;
            }
            file.write_all(bytes)?;
            Ok(Some(file))
        });
    }

    pub(super) fn link(&mut self, link: LinkHead) {
        self.links.push(link);
    }

    pub(super) fn lower(&mut self, lower: Lower) {
        self.lower = Some(lower);
    }

    pub(super) fn unmark(&mut self, marked: Unmark) {
        self.marked.push(marked);
    }

    /// What is done to files that are all there. Links come last, after every folder that they are in: so nothing is written
    /// through one, wherever it leads.
    fn rearrange(&mut self) {
        self.seal();
        if let Some(Lower { folder }) = self.lower.take() {
            self.attempt(&folder, |from| lower(from).map(|()| None));
            self.links.retain_mut(|link| {
                let rest = link.path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'));
                link.path = rest.unwrap_or_default().to_owned();
                !link.path.is_empty() && link.leads_inside()
            });
        }
        for marked in std::mem::take(&mut self.marked) {
            self.attempt(&marked.path, |path| unmark(path).map(|()| None));
        }
        let links = std::mem::take(&mut self.links);
        for link in &links {
            self.attempt(&link.path, |path| path.parent().map_or(Ok(()), make_folder).map(|()| None));
        }
        for link in links {
            self.attempt(&link.path, |path| make_link(&link.target, path).map(|()| None));
        }
    }

    /// A disk that is not the workspace's own is full by nobody's doing that we know.
    pub(super) fn finish(mut self, on_disk: bool) -> io::Result<Option<String>> {
        self.rearrange();
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

/// Moves what is in this folder to where the folder is. What is beside it goes, but for the runner's own.
fn lower(from: &Path) -> io::Result<()> {
    let Some(root) = from.parent() else { return Ok(()) };
    // Out of the way: something in it may have its name.
    let aside = root.join(BUILD_FOLDER).join("lowered");
    make_folder(&root.join(BUILD_FOLDER))?;
    std::fs::rename(from, &aside)?;
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name() == BUILD_FOLDER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    for entry in std::fs::read_dir(&aside)? {
        let entry = entry?;
        std::fs::rename(entry.path(), root.join(entry.file_name()))?;
    }
    std::fs::remove_dir(aside)
}

/// Takes the byte order mark from the start of a file, and nothing else.
fn unmark(path: &Path) -> io::Result<()> {
    let content = std::fs::read(path)?;
    let Some(rest) = content.strip_prefix(BYTE_ORDER_MARK) else { return Ok(()) };
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(rest)?;
    if rest.starts_with(b"#!") {
        file.set_permissions(Permissions::from_mode(0o755))?;
    }
    file.set_modified(long_ago())
}

/// Its time is that of the files, so that whoever collects artifacts knows it again.
fn make_link(target: &str, path: &Path) -> io::Result<()> {
    symlink(target, path)?;
    let time = TimeSpec::new(MODIFIED_SECONDS, 0);
    Ok(utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS.unsigned_abs())
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
        let mut incoming = Incoming::new(root.path());
        incoming.dir(&head("empty", false));
        incoming.file(&head("a/b/run.sh", true));
        incoming.data(b"abc");
        incoming.data(b"def");
        assert_eq!(incoming.finish(false).unwrap(), None);
        let file = root.path().join("a/b/run.sh");
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"abcdef");
        assert_eq!(meta.permissions().mode() & 0o777, 0o755);
        assert_eq!(meta.modified().unwrap(), long_ago());
        assert!(root.path().join("empty").is_dir());
    }

    #[test]
    fn a_full_workspace_is_the_callers_to_mend_and_anything_else_is_ours() {
        let full = io::Error::from(Errno::ENOSPC);
        let incoming = Incoming { error: Some(("x".into(), full)), ..Incoming::new(Path::new("/")) };
        assert!(incoming.finish(false).unwrap().unwrap().contains("config.disk_mb"));
        let broken = io::Error::from(Errno::EIO);
        let incoming = Incoming { error: Some(("x".into(), broken)), ..Incoming::new(Path::new("/")) };
        assert!(incoming.finish(false).is_err());
        let full = io::Error::from(Errno::ENOSPC);
        let incoming = Incoming { error: Some(("x".into(), full)), ..Incoming::new(Path::new("/")) };
        assert!(incoming.finish(true).is_err(), "the whole disk is full");
    }

    fn put(incoming: &mut Incoming<'_>, path: &str, content: &[u8]) {
        incoming.file(&head(path, false));
        incoming.data(content);
    }

    fn link(path: &str, target: &str) -> LinkHead {
        LinkHead { path: path.into(), target: target.into() }
    }

    #[test]
    fn a_file_that_begins_with_hash_bang_is_executable() {
        let root = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(root.path());
        put(&mut incoming, "a", b"#!/bin/sh");
        put(&mut incoming, "b", b"x");
        incoming.data(b"#!/bin/sh");
        put(&mut incoming, "c", b"\xef\xbb\xbf#!/bin/sh");
        incoming.unmark(Unmark { path: "c".into() });
        assert_eq!(incoming.finish(false).unwrap(), None);
        let mode = |name| std::fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("b"), mode("c")), (0o755, 0o644, 0o755));
        let unmarked = root.path().join("c");
        assert_eq!(std::fs::read(&unmarked).unwrap(), b"#!/bin/sh");
        assert_eq!(std::fs::metadata(unmarked).unwrap().modified().unwrap(), long_ago());
    }

    /// Nothing is written through a link, whatever the server lets through: links are made after all files and folders, also where they came before.
    #[test]
    fn nothing_is_written_through_a_link() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = outside.path().to_str().unwrap();
        for (path, beneath) in [("a", "a/x"), ("d/a", "d/a/x"), ("a", "a")] {
            let mut incoming = Incoming::new(root.path());
            incoming.link(link(path, out));
            put(&mut incoming, beneath, b"1");
            incoming.link(link("a/y/z", "x"));
            assert!(incoming.finish(false).is_err(), "{path} {beneath}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
            std::fs::remove_dir_all(root.path()).unwrap();
            std::fs::create_dir(root.path()).unwrap();
        }
    }

    #[test]
    fn links_are_as_they_came_loops_and_chains_too() {
        let root = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(root.path());
        for (path, target) in
            [("bin/tool", "../lib/tool.sh"), ("loop", "loop"), ("a", "b"), ("b", "bin/tool")]
        {
            incoming.link(link(path, target));
        }
        put(&mut incoming, "lib/tool.sh", b"1");
        assert_eq!(incoming.finish(false).unwrap(), None);
        assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"1");
        assert_eq!(std::fs::read_link(root.path().join("loop")).unwrap(), Path::new("loop"));
    }

    #[test]
    fn a_folder_on_top_goes_with_all_that_is_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(root.path());
        put(&mut incoming, "p/main.py", b"1");
        put(&mut incoming, "p/p/x", b"2");
        put(&mut incoming, ".DS_Store", b"3");
        put(&mut incoming, "__MACOSX/p/._main.py", b"4");
        put(&mut incoming, ".execbox/input", b"5");
        incoming.link(link("p/l", "p/x"));
        incoming.link(link("p/up", "../p/main.py"));
        incoming.link(link(".l", "p"));
        incoming.lower(Lower { folder: "p".into() });
        assert_eq!(incoming.finish(false).unwrap(), None);
        let mut names: Vec<_> =
            std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".execbox", "l", "main.py", "p"]);
        assert_eq!(std::fs::read(root.path().join("l")).unwrap(), b"2");
        assert_eq!(std::fs::read_dir(root.path().join(".execbox")).unwrap().count(), 1);
    }
}
