//! Whose packages a volume holds, and whether that data folder is gone.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Label with the data folder's name for itself, or with the name that commands share.
pub(super) const DEPENDENCIES: &str = "execbox.dependencies";
/// Label with the data folder's path.
const FOLDER: &str = "execbox.folder";
/// Label with the file system in which that path is meant.
const PLACE: &str = "execbox.place";
/// The file in a data folder that holds its name for itself.
const INSTANCE_FILE: &str = "instance";

/// Whose packages a server or a command installs.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The data folder's name for itself, or the name that commands share: by it, packages are found again.
    pub(super) instance: String,
    /// Absolute path of the data folder. `None` for commands, which have none, and for a path that is no label.
    folder: Option<String>,
    place: String,
}

/// What became of the data folder for which packages were installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there, and a server may be at it.
    Here,
    /// It is not there, or another one has its place.
    Gone,
    /// Nobody here can say: it is on another machine, in another container, or nowhere.
    Unknown,
}

impl Origin {
    pub(super) fn new(instance: String, folder: Option<PathBuf>) -> Self {
        let folder = folder.filter(|folder| folder.is_absolute());
        Self {
            instance,
            folder: folder.and_then(|folder| folder.to_str().map(str::to_owned)),
            place: place(),
        }
    }

    pub(super) fn labels(&self) -> HashMap<String, String> {
        let mut labels = HashMap::from([(DEPENDENCIES.to_owned(), self.instance.clone())]);
        if let Some(folder) = &self.folder {
            labels.insert(FOLDER.to_owned(), folder.clone());
            labels.insert(PLACE.to_owned(), self.place.clone());
        }
        labels
    }

    /// What became of the folder of a volume with these labels. Only what can be looked at from here is ever gone.
    pub(super) fn fate(&self, labels: &HashMap<String, String>) -> Fate {
        let (Some(folder), Some(place)) = (labels.get(FOLDER), labels.get(PLACE)) else {
            return Fate::Unknown;
        };
        if *place != self.place {
            return Fate::Unknown;
        }
        match std::fs::read_to_string(Path::new(folder).join(INSTANCE_FILE)) {
            Ok(name) if Some(&name) == labels.get(DEPENDENCIES) => Fate::Here,
            Ok(_) => Fate::Gone,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Fate::Gone
            }
            Err(_) => Fate::Unknown,
        }
    }
}

/// Names the tree of files that this process sees: the machine, its host name (which a container has for itself), the
/// mount namespace, and the root folder in it. A machine that was started again may have another; then age decides.
fn place() -> String {
    let machine = ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"];
    let machine =
        machine.iter().find_map(|file| std::fs::read_to_string(file).ok().filter(|id| !id.is_empty()));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let mounts = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let root = std::fs::metadata("/").map(|root| (root.dev(), root.ino())).unwrap_or_default();
    // A hash, for the machine's id is nobody's business.
    let digest = Sha256::digest(format!("{machine:?} {host:?} {mounts:?} {root:?}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels_of(folder: &Path) -> HashMap<String, String> {
        Origin::new("theirs".into(), Some(folder.to_owned())).labels()
    }

    #[test]
    fn only_a_folder_that_can_be_looked_at_is_gone() {
        let us = Origin::new("ours".into(), None);
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let labels = labels_of(&folder);
        assert_eq!(us.fate(&labels), Fate::Gone, "it never was");
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(us.fate(&labels), Fate::Gone, "it is no data folder");
        std::fs::write(folder.join(INSTANCE_FILE), "theirs").unwrap();
        assert_eq!(us.fate(&labels), Fate::Here);
        std::fs::write(folder.join(INSTANCE_FILE), "another's").unwrap();
        assert_eq!(us.fate(&labels), Fate::Gone, "a later folder has its place");
        std::fs::remove_file(folder.join(INSTANCE_FILE)).unwrap();
        std::fs::create_dir(folder.join(INSTANCE_FILE)).unwrap();
        assert_eq!(us.fate(&labels), Fate::Unknown, "it can't be read");

        let elsewhere =
            Origin { place: "another".into(), ..Origin::new("theirs".into(), Some("/no".into())) };
        assert_eq!(us.fate(&elsewhere.labels()), Fate::Unknown, "another host's");
        for none in [Origin::new("commands".into(), None), Origin::new("x".into(), Some("relative".into()))] {
            assert_eq!(us.fate(&none.labels()), Fate::Unknown);
        }
    }
}
