//! Which runtime a project runs on, and where it starts.

use std::sync::Arc;

use crate::archive::{Contents, Entry, EntryKind};
use crate::execution::intake::IntakeError;
use crate::runtime::{Catalogue, Runtime, shown};

/// What was found.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) runtime: Arc<Runtime>,
    /// A file of the project.
    pub(super) entrypoint: String,
    /// Whether the caller, the project or the language's custom chose it; else it is the first source of several.
    pub(super) is_chosen: bool,
}

pub(super) fn find(
    catalogue: &Catalogue,
    language: Option<&str>,
    entrypoint: Option<&str>,
    entries: &[Entry],
    contents: &Contents,
) -> Result<Start, IntakeError> {
    let entrypoint = entrypoint.map(|path| named(path, entries)).transpose()?;
    if let Some(entrypoint) = entrypoint {
        let runtime = language.map_or_else(|| catalogue.of_file(&entrypoint), |name| catalogue.resolve(name));
        let runtime = runtime.map_err(|error| no_notebook(error.into(), Some(&entrypoint), entries))?;
        return Ok(Start { runtime, entrypoint, is_chosen: true });
    }
    let named = language.map(|language| catalogue.resolve(language)).transpose()?;
    let view = catalogue.view(entries, contents);
    let runtime = named.map_or_else(|| catalogue.detect(&view), Ok);
    let start = runtime.and_then(|runtime| {
        let (entrypoint, is_chosen) = runtime.choose_entrypoint(&view)?;
        Ok(Start { runtime, entrypoint, is_chosen })
    });
    start.map_err(|error| no_notebook(too_high(error.into(), entries), None, entries))
}

/// Nothing else is found where a notebook is all there is.
fn no_notebook(error: IntakeError, named: Option<&str>, entries: &[Entry]) -> IntakeError {
    const NOTEBOOK: &str = ".ipynb";
    let mut paths = entries.iter().map(|entry| entry.path.as_str());
    let found = named.or_else(|| paths.find(|path| path.ends_with(NOTEBOOK)));
    match found.filter(|path| path.ends_with(NOTEBOOK)) {
        Some(path) if matches!(error.code, "no_entrypoint" | "unknown_language") => {
            let message = format!(
                "{}; `{}` is a notebook, and notebooks are not run: send its code as a source file, as \
                 `jupyter nbconvert --to script` makes one",
                error.message,
                shown(path)
            );
            IntakeError { message, ..error }
        }
        _ => error,
    }
}

/// Archives are often packed from one folder too high; nothing is found then where it is looked for.
fn too_high(error: IntakeError, entries: &[Entry]) -> IntakeError {
    let top = |entry: &'_ Entry| entry.path.split_once('/').map(|(folder, _)| folder.to_owned());
    let mut files = entries.iter().filter(|entry| entry.kind != EntryKind::Dir);
    let Some(folder) = files.next().and_then(top) else { return error };
    if files.any(|entry| top(entry).as_deref() != Some(&folder)) {
        return error;
    }
    let message =
        format!("{}; all files are in `{}`: pack what is in that folder", error.message, shown(&folder));
    IntakeError { message, ..error }
}

/// The file that the caller names, in the project's own spelling.
fn named(asked: &str, entries: &[Entry]) -> Result<String, IntakeError> {
    let path = asked.trim_start_matches("./");
    let is_path = !path.contains(|letter: char| letter == '\\' || letter.is_control())
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if path.contains('\\') {
        return Err(IntakeError::new("bad_path", backslash(asked, entries)));
    }
    if !is_path {
        let message =
            format!("entrypoint: `{}` must be the path of a file, relative to the project", shown(asked));
        return Err(IntakeError::new("bad_path", message));
    }
    let is_inside = |entry: &Entry| entry.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let entry = entries.iter().find(|entry| entry.path == path);
    let is_folder = entry.is_some_and(|entry| entry.kind == EntryKind::Dir) || entries.iter().any(is_inside);
    match entry {
        _ if is_folder => {
            let message = format!("entrypoint: `{}` is a folder; name a file in it", shown(asked));
            Err(IntakeError::new("no_entrypoint", message))
        }
        Some(entry) => Ok(entry.path.clone()),
        None => Err(IntakeError::new("no_entrypoint", missing(path, entries))),
    }
}

/// A file of the same name elsewhere is worth a word.
fn missing(path: &str, entries: &[Entry]) -> String {
    let name = path.rsplit('/').next();
    let mut files = entries.iter().filter(|entry| entry.kind != EntryKind::Dir);
    if let Some(meant) = files.clone().find(|entry| same_but_for_case(&entry.path, path)) {
        let (path, meant) = (shown(path), shown(&meant.path));
        return format!("entrypoint: `{path}` is not a file of the project; did you mean `{meant}`?");
    }
    let elsewhere = files.find(|entry| entry.path.rsplit('/').next() == name);
    let hint = elsewhere.map_or(String::new(), |entry| format!("; there is `{}`", shown(&entry.path)));
    format!("entrypoint: `{}` is not a file of the project{hint}", shown(path))
}

fn same_but_for_case(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// A path as Windows writes it. It is shown as it came, not escaped.
fn backslash(asked: &str, entries: &[Entry]) -> String {
    let meant = asked.replace('\\', "/");
    let meant = meant.trim_start_matches("./");
    let hint = match entries.iter().find(|entry| entry.path == meant) {
        Some(entry) => format!("; did you mean `{}`?", shown(&entry.path)),
        None => String::new(),
    };
    let asked = shown(asked).replace(r"\\", r"\");
    format!("entrypoint: `{asked}` has a backslash; use / between folders{hint}")
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

    fn start(
        language: Option<&str>,
        entrypoint: Option<&str>,
        paths: &[&str],
    ) -> Result<(String, String), IntakeError> {
        let catalogue = Catalogue::load(None).unwrap();
        find(&catalogue, language, entrypoint, &project(paths), &Contents::new())
            .map(|start| (start.runtime.name.clone(), start.entrypoint))
    }

    #[test]
    fn language_and_entrypoint_are_taken_or_found() {
        for (language, entrypoint, paths, runtime, path) in [
            (Some("python"), Some("a.txt"), &["a.txt"][..], "python", "a.txt"),
            (Some("py@3.13"), None, &["main.py", "x.py"], "python", "main.py"),
            (Some("node"), None, &["main.py", "main.js"], "node", "main.js"),
            (Some("sh"), None, &["main.py", "bin/tool.sh"], "bash", "bin/tool.sh"),
            (None, Some("run.sh"), &["run.sh", "main.py"], "bash", "run.sh"),
            (None, Some("./src/a.py"), &["src/", "src/a.py"], "python", "src/a.py"),
            (None, Some("src/a.py"), &["src/a.py"], "python", "src/a.py"),
            (None, None, &["main.c", "list.c"], "c", "main.c"),
            (None, None, &["hello.js"], "node", "hello.js"),
        ] {
            let found = start(language, entrypoint, paths);
            assert_eq!(found, Ok((runtime.into(), path.into())), "{language:?} {entrypoint:?} {paths:?}");
        }
    }

    #[test]
    fn what_cannot_start_is_refused_with_the_reason() {
        for (language, entrypoint, paths, code, says) in [
            (Some("cobol"), None, &["main.py"][..], "unknown_language", "GET /api/v1/runtimes"),
            (Some("python@2"), None, &["main.py"], "unknown_version", "python 3.13"),
            (None, None, &["main.py", "main.sh"], "ambiguous_language", "bash (main.sh) or python (main.py)"),
            (None, None, &[], "no_entrypoint", "main.py"),
            (
                None,
                None,
                &["p/", "p/a.py", "p/b.py"],
                "no_entrypoint",
                "; all files are in `p`: pack what is in",
            ),
            (None, None, &["p/main.py", "p/main.js"], "ambiguous_language", "; all files are in `p`: pack"),
            (None, None, &["p/a.py", "q/b.py"], "no_entrypoint", "name one of p/a.py, q/b.py"),
            (Some("python"), None, &["a.py", "b.py"], "no_entrypoint", "main.py or __main__.py"),
            (Some("python"), None, &["main.js"], "no_entrypoint", "single .py file"),
            (None, Some("main.py"), &["proj/main.py"], "no_entrypoint", "there is `proj/main.py`"),
            (None, Some("gone.py"), &["main.py"], "no_entrypoint", "`gone.py` is not a file of the project"),
            (None, Some("src"), &["src/", "src/main.py"], "no_entrypoint", "is a folder"),
            (None, Some("src"), &["src/main.py"], "no_entrypoint", "is a folder"),
            (None, Some("../main.py"), &["main.py"], "bad_path", "../main.py"),
            (None, Some("/main.py"), &["main.py"], "bad_path", "/main.py"),
            (None, Some("a/../main.py"), &["main.py"], "bad_path", "relative to the project"),
            (None, Some("a//main.py"), &["a/main.py"], "bad_path", "a//main.py"),
            (None, Some("src/"), &["src/main.py"], "bad_path", "src/"),
            (None, Some(""), &["main.py"], "bad_path", "``"),
            (None, Some("."), &["main.py"], "bad_path", "`.`"),
            (
                None,
                Some("a\\main.py"),
                &["main.py"],
                "bad_path",
                r"`a\main.py` has a backslash; use / between",
            ),
            (None, Some("a\\main.py"), &["a/main.py"], "bad_path", "did you mean `a/main.py`?"),
            (None, Some("main.py"), &["Main.py"], "no_entrypoint", "did you mean `Main.py`?"),
            (None, Some("src/App.py"), &["Src/app.py", "App.py"], "no_entrypoint", "mean `Src/app.py`?"),
            (None, None, &["analysis.ipynb"], "no_entrypoint", "notebooks are not run"),
            (None, Some("a.ipynb"), &["a.ipynb"], "unknown_language", "notebooks are not run"),
            (Some("python"), None, &["a.ipynb"], "no_entrypoint", "notebooks are not run"),
            (None, Some("main.py\0.sh"), &["main.py"], "bad_path", r"main.py\u{0}.sh"),
            (None, Some("data.csv"), &["data.csv"], "unknown_language", "data.csv"),
        ] {
            let error = start(language, entrypoint, paths).unwrap_err();
            assert_eq!(error.code, code, "{language:?} {entrypoint:?} {paths:?}: {error}");
            assert!(error.message.contains(says), "{language:?} {entrypoint:?} {paths:?}: {error}");
        }
    }

    #[test]
    fn a_long_entrypoint_is_not_echoed() {
        for name in ["x".repeat(10_240), "\n".repeat(10_240)] {
            let error = start(None, Some(&name), &["main.py"]).unwrap_err();
            assert!(error.message.len() < 250, "{error}");
        }
    }
}
