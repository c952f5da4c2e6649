//! Makes a project of what is named on the command line: a file, a folder, or a program on standard input.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::archive::{ArchiveLimits, Project, ProjectWriter};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::runner::frame::DATA_CHUNK;

/// A project, and the file of it that runs where that is known already.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) project: Project,
    pub(super) entrypoint: Option<String>,
}

/// Packs a file by its name alone, or a folder without the one inside it to which its output goes.
pub(super) fn path(
    path: &Path,
    output: Option<&Path>,
    spool: &Path,
    limits: ArchiveLimits,
) -> Result<Packed, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| about(path, error))?;
    let mut writer = ProjectWriter::new(spool, limits).map_err(Failure::ours)?;
    if metadata.is_dir() {
        folder(path, output, &mut writer)?;
        return Ok(Packed { project: writer.finish().map_err(Failure::usage)?, entrypoint: None });
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| about(path, "its name is not UTF-8"))?.to_owned();
    file(path, &name, &metadata, &mut writer)?;
    Ok(Packed { project: writer.finish().map_err(Failure::usage)?, entrypoint: Some(name) })
}

/// Packs a program of which only the text is there.
pub(super) fn program(
    name: &str,
    text: impl Read,
    spool: &Path,
    limits: ArchiveLimits,
) -> Result<Packed, Failure> {
    let mut bytes = Vec::new();
    // One byte over the cap is enough to be refused for it.
    let read = text.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("standard input can't be read: {error}")))?;
    let mut writer = ProjectWriter::new(spool, limits).map_err(Failure::ours)?;
    writer.file(name, bytes.len() as u64, false).map_err(Failure::usage)?;
    writer.data(&bytes).map_err(Failure::usage)?;
    Ok(Packed { project: writer.finish().map_err(Failure::usage)?, entrypoint: Some(name.to_owned()) })
}

/// Hidden files go in, `.git` and what .gitignore names do not; links go in as links, and those that lead
/// out of the folder are left out, with a notice of the result.
fn folder(root: &Path, output: Option<&Path>, writer: &mut ProjectWriter) -> Result<(), Failure> {
    let real = |path: &Path| path.canonicalize().ok();
    // What an earlier run left is not part of the project. It may be the project's own folder.
    let output = output.and_then(real).filter(|output| Some(output) != real(root).as_ref());
    let mut walk = WalkBuilder::new(root);
    walk.hidden(false).ignore(false).git_global(false).require_git(false);
    walk.filter_entry(move |entry| {
        let is_output = || output.is_some() && entry.path().canonicalize().ok() == output;
        entry.file_name() != ".git" && !(entry.file_type().is_some_and(|kind| kind.is_dir()) && is_output())
    });
    walk.sort_by_file_name(Ord::cmp);
    for entry in walk.build() {
        let entry = entry.map_err(Failure::usage)?;
        let name = relative(root, entry.path())?;
        if name.is_empty() {
            continue;
        }
        let metadata = entry.metadata().map_err(Failure::usage)?;
        if metadata.is_dir() {
            writer.dir(&name).map_err(Failure::usage)?;
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(entry.path()).map_err(|error| about(entry.path(), error))?;
            writer.link(&name, target.as_os_str().as_bytes()).map_err(Failure::usage)?;
        } else if metadata.is_file() {
            file(entry.path(), &name, &metadata, writer)?;
        } else {
            output::note(&format!("execbox: left out {name}: only files, folders and links are sent"));
        }
    }
    Ok(())
}

fn file(path: &Path, name: &str, metadata: &Metadata, writer: &mut ProjectWriter) -> Result<(), Failure> {
    if !metadata.is_file() {
        return Err(about(path, "it is neither a file nor a folder"));
    }
    let mut content = File::open(path).map_err(|error| about(path, error))?.take(metadata.len());
    let executable = metadata.permissions().mode() & 0o111 != 0;
    writer.file(name, metadata.len(), executable).map_err(Failure::usage)?;
    let mut buffer = vec![0; DATA_CHUNK];
    let mut left = metadata.len();
    while left > 0 {
        let read = content.read(&mut buffer).map_err(|error| about(path, error))?;
        if read == 0 {
            return Err(about(path, "it became shorter while it was read"));
        }
        left -= read as u64;
        writer.data(&buffer[..read]).map_err(Failure::usage)?;
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> Result<String, Failure> {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.to_str().map(str::to_owned).ok_or_else(|| about(path, "its name is not UTF-8"))
}

fn about(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("{}: {what}", PathBuf::from(path).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::EntryKind;
    use std::{fs, io};

    fn limits() -> ArchiveLimits {
        crate::config::Config::default().archive_limits()
    }

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_folder_goes_with_its_hidden_files_and_without_what_is_ignored() {
        let (folder, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path();
        for (name, text) in [
            ("main.sh", "echo"),
            ("lib/a.txt", "a"),
            (".hidden", "h"),
            (".gitignore", "*.log\n/target/\n"),
            ("x.log", "ignored"),
            ("lib/y.log", "ignored"),
            ("target/z", "ignored"),
            (".git/config", "never"),
        ] {
            write(root, name, text);
        }
        fs::set_permissions(root.join("main.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        std::os::unix::fs::symlink("lib/a.txt", root.join("inside")).unwrap();
        let mut packed = path(root, None, spool.path(), limits()).unwrap();
        let notices = packed.project.take_notices();
        assert!(notices.len() == 1 && notices[0].contains("\"link\" was left out"), "{notices:?}");
        assert_eq!(packed.project.count(), 6, "a link among them");
        let names: Vec<_> = packed.project.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(names, [".gitignore", ".hidden", "lib", "lib/a.txt", "main.sh"]);
        assert_eq!(packed.project.entries()[4].kind, EntryKind::File { size: 4, executable: true });
        assert_eq!(packed.entrypoint, None);
    }

    #[test]
    fn what_an_earlier_run_left_in_the_output_folder_is_not_sent() {
        let (folder, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path();
        for name in ["main.py", "out/plot.png", "lib/out/kept.txt"] {
            write(root, name, "x");
        }
        let names = |output: Option<&Path>| {
            let packed = path(root, output, spool.path(), limits()).unwrap();
            packed.project.entries().iter().map(|entry| entry.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(Some(&root.join("lib/../out"))), ["lib", "lib/out", "lib/out/kept.txt", "main.py"]);
        for other in [None, Some(root), Some(&*root.join("not/there"))] {
            assert_eq!(names(other).len(), 6, "{other:?}");
        }
    }

    #[test]
    fn a_file_goes_by_its_name_and_is_the_entrypoint() {
        let (folder, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(folder.path(), "deep/main.py", "print(1)");
        let packed = path(&folder.path().join("deep/main.py"), None, spool.path(), limits()).unwrap();
        assert_eq!(packed.entrypoint.as_deref(), Some("main.py"));
        assert_eq!((packed.project.entries().len(), packed.project.bytes()), (1, 8));
    }

    #[test]
    fn a_program_on_standard_input_is_held_under_the_cap() {
        let spool = tempfile::tempdir().unwrap();
        let small = ArchiveLimits { bytes: 10, ..limits() };
        assert!(program("main.py", &b"0123456789"[..], spool.path(), small).is_ok());
        assert!(program("main.py", io::repeat(b'x'), spool.path(), small).is_err());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let spool = tempfile::tempdir().unwrap();
        let failure = path(Path::new("/no/such/file.py"), None, spool.path(), limits()).unwrap_err();
        assert!(failure.message.starts_with("/no/such/file.py: "), "{}", failure.message);
        assert_eq!(path(Path::new("/dev/null"), None, spool.path(), limits()).unwrap_err().code, 2);
    }
}
