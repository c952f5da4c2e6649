//! What a project is and where it starts, when a request does not say.

use std::sync::Arc;

use crate::archive::{Entry, EntryKind};
use crate::runtime::error::shown;
use crate::runtime::{Catalogue, Runtime, RuntimeError};

impl Catalogue {
    /// The newest runtime of the language that the entrypoint's extension tells, else the project: by a file that is
    /// an entrypoint of that name in its language, else by the extensions of its files.
    ///
    /// # Errors
    /// No language fits, or more than one.
    pub fn detect(&self, entrypoint: Option<&str>, entries: &[Entry]) -> Result<Arc<Runtime>, RuntimeError> {
        if let Some(entrypoint) = entrypoint {
            let found = self.newest().find(|runtime| runtime.has_extension(entrypoint));
            let unknown = || RuntimeError::UnknownExtension { entrypoint: shown(entrypoint) };
            return found.cloned().ok_or_else(unknown);
        }
        let by_entrypoint = self.newest().filter(|runtime| runtime.default_entrypoint(entries).is_some());
        if let Some(found) = only(by_entrypoint)? {
            return Ok(found);
        }
        let by_extension = self.newest().filter(|runtime| runtime.sources(entries).next().is_some());
        only(by_extension)?.ok_or_else(|| RuntimeError::NoEntrypoint { looked_for: self.any_entrypoint() })
    }

    /// The newest version of each language, without variants.
    fn newest(&self) -> impl Iterator<Item = &Arc<Runtime>> {
        let mut last = "";
        self.runtimes().iter().filter(|runtime| !runtime.is_variant()).filter(move |runtime| {
            let is_first = runtime.name != last;
            last = &runtime.name;
            is_first
        })
    }

    fn any_entrypoint(&self) -> String {
        self.newest().map(|runtime| runtime.any_entrypoint()).collect::<Vec<_>>().join(", no ")
    }
}

/// One runtime, none, or the names of the several.
fn only<'a>(
    mut runtimes: impl Iterator<Item = &'a Arc<Runtime>>,
) -> Result<Option<Arc<Runtime>>, RuntimeError> {
    let Some(first) = runtimes.next() else { return Ok(None) };
    let others: Vec<String> = runtimes.map(|runtime| runtime.name.clone()).collect();
    if others.is_empty() {
        return Ok(Some(Arc::clone(first)));
    }
    let candidates = std::iter::once(first.name.clone()).chain(others).collect();
    Err(RuntimeError::AmbiguousLanguage { candidates })
}

impl Runtime {
    /// Where a project of this language starts: one of the language's entrypoints, else its only source file.
    ///
    /// # Errors
    /// Neither is there; says what was looked for.
    pub fn find_entrypoint(&self, entries: &[Entry]) -> Result<String, RuntimeError> {
        if let Some(found) = self.default_entrypoint(entries) {
            return Ok(found.to_owned());
        }
        let mut sources = self.sources(entries);
        match (sources.next(), sources.next()) {
            (Some(only), None) => Ok(only.to_owned()),
            _ => Err(RuntimeError::NoEntrypoint { looked_for: self.any_entrypoint() }),
        }
    }

    fn default_entrypoint(&self, entries: &[Entry]) -> Option<&str> {
        self.entrypoints.iter().map(String::as_str).find(|&name| files(entries).any(|path| path == name))
    }

    fn sources<'a>(&'a self, entries: &'a [Entry]) -> impl Iterator<Item = &'a str> {
        files(entries).filter(|path| self.has_extension(path))
    }

    fn has_extension(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let Some((stem, extension)) = name.rsplit_once('.') else { return false };
        !stem.is_empty() && self.extensions.iter().any(|known| known.eq_ignore_ascii_case(extension))
    }

    fn any_entrypoint(&self) -> String {
        let mut ways = self.entrypoints.clone();
        ways.extend(self.extensions.iter().map(|extension| format!("single .{extension} file")));
        ways.join(" or ")
    }
}

fn files(entries: &[Entry]) -> impl Iterator<Item = &str> {
    entries
        .iter()
        .filter(|entry| matches!(entry.kind, EntryKind::File { .. }))
        .map(|entry| entry.path.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(paths: &[&str]) -> Vec<Entry> {
        let entry = |path: &&str| match path.strip_suffix('/') {
            Some(folder) => Entry { path: folder.to_owned(), kind: EntryKind::Dir },
            None => Entry { path: (*path).to_owned(), kind: EntryKind::File { size: 1, executable: false } },
        };
        paths.iter().map(entry).collect()
    }

    fn detect(entrypoint: Option<&str>, paths: &[&str]) -> Result<String, RuntimeError> {
        let found = Catalogue::load(None).unwrap().detect(entrypoint, &project(paths));
        found.map(|runtime| runtime.name.clone())
    }

    #[test]
    fn a_language_is_found_by_entrypoint_and_by_project() {
        for (entrypoint, paths, language) in [
            (Some("src/run.mjs"), &[][..], "node"),
            (Some("A.PY"), &[], "python"),
            (Some("x.tar.sh"), &[], "bash"),
            (None, &["main.py", "tool.sh", "native.c"], "python"),
            (None, &["src/main.c", "src/list.c", "data.csv"], "c"),
            (None, &["hello.py", "README"], "python"),
            (None, &["a.py", "b.py"], "python"),
        ] {
            assert_eq!(detect(entrypoint, paths).as_deref(), Ok(language), "{entrypoint:?} {paths:?}");
        }
    }

    #[test]
    fn an_undecided_project_is_refused_with_the_choices() {
        for (entrypoint, paths, code, says) in [
            (Some("main.cob"), &["main.cob"][..], "unknown_language", "main.cob"),
            (Some("Makefile"), &["Makefile"], "unknown_language", "Makefile"),
            (Some(".py"), &[], "unknown_language", ".py"),
            (None, &["main.py", "main.sh"], "ambiguous_language", "bash, python"),
            (None, &["a.py", "b.c"], "ambiguous_language", "c, python"),
            (None, &["notes.txt", "main.py/"], "no_entrypoint", "main.py"),
            (None, &[], "no_entrypoint", "main.py"),
        ] {
            let error = detect(entrypoint, paths).unwrap_err();
            assert_eq!(error.code(), code, "{entrypoint:?} {paths:?}: {error}");
            assert!(error.to_string().contains(says), "{entrypoint:?} {paths:?}: {error}");
        }
    }

    #[test]
    fn the_entrypoint_is_the_best_default_or_the_only_source() {
        let python = Catalogue::load(None).unwrap().resolve("python").unwrap();
        for (paths, found) in [
            (&["app.py", "main.py", "z.py"][..], Some("main.py")),
            (&["app.py", "z.py"], Some("app.py")),
            (&["lib/only.py", "x.txt"], Some("lib/only.py")),
            (&["a.py", "b.py"], None),
            (&["main.py/", "lib/main.py", "a.py"], None),
            (&[], None),
        ] {
            assert_eq!(python.find_entrypoint(&project(paths)).ok().as_deref(), found, "{paths:?}");
        }
    }
}
