//! Why no Engine answers at an address, and what to do.

use std::error::Error as _;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use bollard::errors::Error;

/// Why an address gave no Engine.
#[derive(Debug)]
pub(super) enum Unreachable {
    /// Nobody listens there, or whoever does is no Engine.
    Silent(String),
    /// Its socket is there, and this user may not use it.
    Forbidden(String),
}

impl Unreachable {
    pub(super) fn new(address: &str, error: &Error) -> Self {
        match (address.strip_prefix("unix://"), system_error(error)) {
            (Some(path), Some(cause)) if cause.kind() == ErrorKind::PermissionDenied => {
                Self::Forbidden(forbidden(path))
            }
            (_, Some(cause)) => Self::Silent(format!("{address}: {cause}")),
            _ => Self::Silent(format!("{address}: {error}")),
        }
    }
}

/// What the system said, under the layers of the client.
fn system_error(error: &Error) -> Option<&std::io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What to do where the socket at this path is not for us: its group is the way in, if it has one.
fn forbidden(path: &str) -> String {
    let id = nix::unistd::geteuid().to_string();
    let user = name_of(&id, "/etc/passwd").unwrap_or_else(|| format!("user id {id}"));
    let group = std::fs::metadata(path).ok().as_ref().and_then(group);
    let way_in = match group {
        Some(group) => format!("Run as root, or: sudo usermod -aG {group} {user}, and log in again"),
        None => "Run as root, or as the user whose Engine it is".to_owned(),
    };
    format!("{path} is there, but {user} may not use it. {way_in}")
}

/// The group that may use a socket. Never root's.
fn group(socket: &Metadata) -> Option<String> {
    let may_use = socket.permissions().mode() & 0o020 != 0 && socket.gid() != 0;
    may_use.then(|| name_of(&socket.gid().to_string(), "/etc/group")).flatten()
}

/// The name of an id, from a file of lines like `NAME:x:ID`. The C library would ask modules that a static binary lacks.
fn name_of(id: &str, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(id))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_names_where_the_files_say_so() {
        assert_eq!(name_of("0", "/etc/passwd").as_deref(), Some("root"));
        assert_eq!(name_of("4294967294", "/etc/passwd"), None);
        assert_eq!(name_of("0", "/no/such/file"), None);
    }

    #[test]
    fn a_socket_without_a_group_is_roots() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let said = forbidden(path.to_str().unwrap());
        assert!(said.contains("Run as root, or as the user") && !said.contains("usermod"), "{said}");
    }
}
