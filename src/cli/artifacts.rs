//! Writes artifacts into a folder of the caller's, and nowhere else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc::O_NOFOLLOW;

use crate::sandbox::Artifact;

/// Writes them all; a file of an earlier run is written over.
///
/// # Errors
/// The first that can't be written, with its path. A link inside `folder` is never followed.
pub(super) fn save(artifacts: &[Artifact], folder: &Path) -> Result<(), String> {
    let about = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(|error| about(folder, &error))?;
    for artifact in artifacts {
        let target =
            target(folder, &artifact.path).map_err(|error| about(&folder.join(&artifact.path), &error))?;
        copy(&artifact.file, &target).map_err(|error| about(&target, &error))?;
    }
    Ok(())
}

/// Makes the parents one by one: a program may leave `a/b` where an earlier one left a link `a`.
fn target(folder: &Path, path: &str) -> io::Result<PathBuf> {
    let mut target = folder.to_owned();
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        // Names were checked where they came in; here one mistake would be a write anywhere.
        if matches!(name, "" | "." | "..") {
            return Err(io::Error::other("this path leaves the folder"));
        }
        target.push(name);
        if names.peek().is_some() {
            parent(&target)?;
        }
    }
    Ok(target)
}

fn parent(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other(format!("{} is in the way: it is no folder", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(path),
        Err(error) => Err(error),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let is_other = fs::symlink_metadata(to).is_ok_and(|metadata| !metadata.is_file());
    if is_other {
        return Err(io::Error::other("something that is no file is in the way"));
    }
    let mut source = File::open(from)?;
    let mut options = OpenOptions::new();
    let mut target = options.write(true).create(true).truncate(true).custom_flags(O_NOFOLLOW).open(to)?;
    io::copy(&mut source, &mut target).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(folder: &Path, path: &str) -> Artifact {
        let file = folder.join("content");
        fs::write(&file, path).unwrap();
        Artifact { path: path.into(), size: path.len() as u64, sha256: String::new(), file }
    }

    #[test]
    fn parents_are_made_and_an_earlier_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/out");
        for _ in 0..2 {
            save(&[artifact(folder.path(), "a/b/c.txt")], &out).unwrap();
        }
        assert_eq!(fs::read_to_string(out.join("a/b/c.txt")).unwrap(), "a/b/c.txt");
    }

    #[test]
    fn nothing_is_written_through_a_link_or_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (out, outside) = (folder.path().join("out"), folder.path().join("outside"));
        for made in [&out, &outside] {
            fs::create_dir(made).unwrap();
        }
        fs::write(outside.join("file"), "canary").unwrap();
        std::os::unix::fs::symlink(&outside, out.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), out.join("file")).unwrap();
        for path in ["link/file", "file", "../outside/file", "/etc/x", "link", "a//b"] {
            assert!(save(&[artifact(folder.path(), path)], &out).is_err(), "{path}");
        }
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "canary");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
