//! The user that a program runs as: a number that no image knows, as it differs from one container to the next. Programs
//! that ask for its name find one in their environment and, in our images, in the files `passwd` and `group`, which are
//! links to what the runner writes into the build folder.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc::O_NONBLOCK;
use nix::unistd::{getegid, geteuid};

/// The name of the user and of its group.
const NAME: &str = "execbox";
/// Where our images keep the users and groups of the system.
const ORIGINALS: &str = "/usr/lib/execbox";
/// The home folder, which the runner makes in the build folder, so that caches are no artifacts.
const HOME: &str = "/work/.execbox/home";
/// More of an image's file is not read: it can be anybody's.
const MOST_BYTES: u64 = 64 << 10;
/// Of a terminal that can do nothing: there is none.
const TERM: &str = "dumb";

/// What every program finds in its environment, unless it is set otherwise.
const VARIABLES: [(&str, &str); 4] = [("HOME", HOME), ("LOGNAME", NAME), ("TERM", TERM), ("USER", NAME)];

/// Variables that are not among these.
pub(super) fn missing_variables(env: &[(String, String)]) -> impl Iterator<Item = (String, String)> {
    let is_missing = |name: &str| env.iter().all(|(other, _)| other != name);
    VARIABLES
        .into_iter()
        .filter(move |(name, _)| is_missing(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Writes `passwd` and `group` into this folder. An image of another kind has files of its own, and gets none.
pub(super) fn write_names(build_folder: &Path) {
    let (uid, gid) = (geteuid(), getegid());
    let user = format!("{NAME}:x:{uid}:{gid}:{NAME}:{HOME}:/bin/sh\n");
    let group = format!("{NAME}:x:{gid}:\n");
    for (name, line) in [("passwd", user), ("group", group)] {
        // Without its name a program runs as well: where there is no room for it, the files that follow will tell.
        let _ = write_with(&Path::new(ORIGINALS).join(name), &build_folder.join(name), &line);
    }
}

fn write_with(original: &Path, path: &Path, line: &str) -> io::Result<()> {
    // Nothing is waited for, should it be a pipe.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(original)?;
    let mut content = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut content)?;
    content.extend_from_slice(line.as_bytes());
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?.write_all(&content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_user_and_no_terminal_unless_it_is_told_otherwise() {
        let own = ("USER".to_owned(), "ann".to_owned());
        let added: Vec<_> = missing_variables(&[own]).collect();
        let expected = [("HOME", HOME), ("LOGNAME", "execbox"), ("TERM", "dumb")];
        assert_eq!(added, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_users_line_follows_those_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let (original, path) = (folder.path().join("original"), folder.path().join("passwd"));
        assert!(
            write_with(&original, &path, "execbox\n").is_err() && !path.exists(),
            "an image of another kind"
        );
        std::fs::write(&original, "root:x:0\n").unwrap();
        write_with(&original, &path, "execbox\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "root:x:0\nexecbox\n");
    }
}
