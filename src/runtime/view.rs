//! What detection sees of a project: its files by path and extension, and the content of the few that say something of
//! the project.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::archive::{Contents, Entry, EntryKind};
use crate::runtime::Catalogue;

/// A project as detection sees it.
#[derive(Debug)]
pub struct ProjectView<'a> {
    paths: HashSet<&'a str>,
    /// Files at the root, in order of their names.
    root: Vec<&'a str>,
    /// Files that may be sources, by extension in lower case (unless a language has it in capital letters), in order. Those in hidden folders and in folders with other
    /// people's code are not among them.
    by_extension: HashMap<String, Vec<&'a str>>,
    contents: &'a Contents,
}

impl Catalogue {
    /// The project that has these files, as detection sees it. `contents` has what is known of
    /// [`Self::telling_files`].
    #[must_use]
    pub fn view<'a>(&self, entries: &'a [Entry], contents: &'a Contents) -> ProjectView<'a> {
        let vendored: HashSet<&str> =
            self.runtimes().iter().flat_map(|runtime| &runtime.signs.vendored).map(String::as_str).collect();
        let extensions = self.runtimes().iter().flat_map(|runtime| &runtime.extensions);
        let cased: HashSet<&str> =
            extensions.map(String::as_str).filter(|extension| !is_caseless(extension)).collect();
        let mut view = ProjectView::of(entries, contents);
        let mut sources: Vec<&str> = view.paths.iter().copied().collect();
        sources.sort_unstable();
        for path in sources {
            let mut folders = path.split('/').rev().skip(1);
            let Some(extension) = extension(path).filter(|_| !path.starts_with('.')) else { continue };
            if !folders.any(|folder| folder.starts_with('.') || vendored.contains(folder)) {
                let key = if cased.contains(extension) {
                    extension.to_owned()
                } else {
                    extension.to_ascii_lowercase()
                };
                view.by_extension.entry(key).or_default().push(path);
            }
        }
        view
    }

    /// Names of the files, all at a project's root, whose content says where it starts.
    #[must_use]
    pub fn telling_files(&self) -> BTreeSet<&str> {
        let named_in = self.runtimes().iter().flat_map(|runtime| &runtime.signs.named_in);
        named_in.map(|named| named.file()).collect()
    }
}

impl<'a> ProjectView<'a> {
    /// Without the sources, which only a catalogue can tell.
    pub(super) fn of(entries: &'a [Entry], contents: &'a Contents) -> Self {
        let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        let paths: HashSet<&str> = files.map(|entry| entry.path.as_str()).collect();
        let mut root: Vec<&str> = paths.iter().copied().filter(|path| !path.contains('/')).collect();
        root.sort_unstable();
        Self { paths, root, by_extension: HashMap::new(), contents }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    pub(super) fn root(&self) -> &[&'a str] {
        &self.root
    }

    /// Files with this extension that may be sources, in order.
    pub(super) fn with_extension(&self, extension: &str) -> &[&'a str] {
        self.by_extension.get(extension).map_or(&[], Vec::as_slice)
    }

    pub(super) fn content(&self, path: &str) -> Option<&[u8]> {
        self.contents.get(path).map(Vec::as_slice)
    }
}

/// Whether an extension of a language is also meant by its capital letters: one that has such letters itself, as `.C` of
/// C++ has, is meant by them alone.
pub(super) fn is_caseless(extension: &str) -> bool {
    !extension.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// What stands after the last dot of a file's name, unless the name has nothing before it.
pub(super) fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension)
}
