//! Writes artifacts into a folder of the caller's, and nowhere else.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::sandbox::Artifact;

/// Writes them all; a file of an earlier run is replaced.
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

/// A file that is there is replaced, not written to: it may have another name elsewhere, or be half read by somebody.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let is_other = fs::symlink_metadata(to).is_ok_and(|metadata| !metadata.is_file());
    if is_other {
        return Err(io::Error::other("something that is no file is in the way"));
    }
    let folder = to.parent().unwrap_or(Path::new("."));
    // The umask has its say, as with any new file.
    let mut target = tempfile::Builder::new()
        .prefix(".execbox-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    io::copy(&mut File::open(from)?, &mut target)?;
    target.persist(to)?;
    Ok(())
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
        let left: Vec<_> = fs::read_dir(out.join("a/b")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn another_name_of_an_earlier_file_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let (out, outside) = (folder.path().join("out"), folder.path().join("outside"));
        fs::create_dir(&out).unwrap();
        fs::write(&outside, "canary").unwrap();
        fs::hard_link(&outside, out.join("file")).unwrap();
        save(&[artifact(folder.path(), "file")], &out).unwrap();
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "file");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "canary");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&out.join("file")), mode(&outside), "as any new file");
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
