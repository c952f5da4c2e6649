//! One folder on top of a project, as the archives of forges have it: the folder's content is taken for the project.

use std::io;

use super::links::outside;
use super::path::quoted;
use super::{EntryKind, Project};
use crate::runner::frame::{Kind, encode_message};
use crate::runner::message::{Lower, Unmark};

/// Whether what has this path, or the folder at the root that it is in, says nothing of a project: what a Mac and
/// `git archive` leave.
#[must_use]
pub fn is_junk(path: &str) -> bool {
    let name = path.split('/').next().unwrap_or(path);
    matches!(name, "__MACOSX" | ".DS_Store" | "pax_global_header") || name.starts_with("._")
}

impl Project {
    /// The folder that everything is in, leavings of a Mac aside. A hidden folder is none, nor is one with a folder in it
    /// whose name the runner keeps for itself.
    #[must_use]
    pub fn only_folder(&self) -> Option<&str> {
        let top = |path: &'_ str| path.split('/').next().map(str::len).unwrap_or_default();
        let paths = || {
            let entries = self.entries.iter().map(|entry| &*entry.path);
            entries.chain(self.links.iter().map(|link| &*link.path)).filter(|path| !is_junk(path))
        };
        let first = paths().next()?;
        let folder = &first[..top(first)];
        let inside = |path: &'_ str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let is_folder = |path: &str| path == folder && self.links.iter().all(|link| link.path != folder);
        let reserved = format!("{folder}/.execbox");
        let is_reserved = |path: &str| {
            path.strip_prefix(&reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let file_inside = self
            .entries
            .iter()
            .any(|entry| inside(&entry.path) && matches!(entry.kind, EntryKind::File { .. }));
        let all = paths().all(|path| (inside(path) || is_folder(path)) && !is_reserved(path));
        (all && file_inside && !folder.starts_with('.')).then_some(folder)
    }

    /// Makes the content of this folder, which [`Self::only_folder`] gave, the project. Links that lead out of the folder
    /// are left out.
    ///
    /// # Errors
    /// The spool's; and its frames are kept by somebody else.
    pub fn lower(&mut self, folder: &str) -> io::Result<()> {
        self.append_message(Kind::Lower, &Lower { folder: folder.to_owned() })?;
        let prefix = format!("{folder}/");
        self.entries.retain_mut(|entry| strip(&mut entry.path, &prefix));
        self.links.retain_mut(|link| strip(&mut link.path, &prefix));
        let notices = &mut self.notices;
        self.links.retain(|link| {
            let inside = link.leads_inside();
            if !inside {
                notices.push(outside(&link.path, link.target.as_bytes()));
            }
            inside
        });
        self.top = Some(prefix);
        self.notices.push(format!(
            "all files are in the folder {}: the project is what is in it, as if it were packed from there",
            quoted(folder.as_bytes())
        ));
        Ok(())
    }
}

impl Project {
    /// Takes the byte order mark from the start of a file.
    ///
    /// # Errors
    /// The spool's; and its frames are kept by somebody else.
    pub fn unmark(&mut self, path: &str) -> io::Result<()> {
        self.append_message(Kind::Unmark, &Unmark { path: path.to_owned() })
    }

    fn append_message(&mut self, kind: Kind, message: &impl serde::Serialize) -> io::Result<()> {
        let mut frame = Vec::new();
        encode_message(kind, message, &mut frame).map_err(io::Error::other)?;
        self.spool.append(&self.folder, |out| out.write_all(&frame))
    }
}

fn strip(path: &mut String, prefix: &str) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    *path = rest.to_owned();
    true
}
