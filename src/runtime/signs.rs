//! What tells that a project is of a language and where it starts: read from `runtime.toml`, never in Rust.

use globset::{GlobBuilder, GlobMatcher};
use regex_automata::meta::Regex;
use serde_json::Value;

use crate::runtime::view::ProjectView;

/// What a language's projects look like, beside the extensions and entrypoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signs {
    /// Files that projects of the language have at their root, such as `go.mod`.
    pub markers: Vec<PathPattern>,
    /// Names of files that have one of the language's extensions and belong to a tool, such as `*.config.js`.
    pub tooling: Vec<PathPattern>,
    /// Names of folders with other people's code, such as `node_modules`.
    pub vendored: Vec<String>,
    /// Its files accompany the projects of other languages, as shell scripts do.
    pub companion: bool,
    /// Its programs break at line ends of Windows.
    pub refuses_crlf: bool,
    /// Languages that it is chosen over where a project could be either.
    pub outranks: Vec<String>,
    /// Where a project's own files name the entrypoint, best first.
    pub named_in: Vec<NamedIn>,
}

/// A path, or a glob of paths in which `*` stays within a folder.
#[derive(Debug, Clone)]
pub struct PathPattern {
    text: String,
    /// Of those that are no plain path.
    glob: Option<GlobMatcher>,
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl PathPattern {
    /// Reads a pattern as it stands in a `runtime.toml`.
    ///
    /// # Errors
    /// It is no glob.
    pub(super) fn parse(text: String) -> Result<Self, String> {
        let is_glob = text.contains(['*', '?', '[', '{']);
        let compile = || GlobBuilder::new(&text).literal_separator(true).build();
        let glob =
            is_glob.then(compile).transpose().map_err(|error| format!("`{text}`: {}", error.kind()))?;
        Ok(Self { glob: glob.map(|glob| glob.compile_matcher()), text })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The one path that it matches, where it is no glob.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        self.glob.is_none().then_some(&self.text)
    }

    pub(super) fn is_match(&self, path: &str) -> bool {
        self.glob.as_ref().map_or(self.text == path, |glob| glob.is_match(path))
    }
}

/// A key of a project's own JSON or TOML file that names the entrypoint, as `main` of `package.json` does.
#[derive(Debug, Clone)]
pub struct NamedIn {
    file: String,
    /// With dots between the parts.
    key: String,
    /// Has a group `entrypoint`; without one, the value is the path.
    pattern: Option<Regex>,
    source: Option<String>,
}

impl PartialEq for NamedIn {
    fn eq(&self, other: &Self) -> bool {
        (&self.file, &self.key, &self.source) == (&other.file, &other.key, &other.source)
    }
}

impl NamedIn {
    /// Reads one as it stands in a `runtime.toml`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn parse(file: String, key: String, source: Option<String>) -> Result<Self, String> {
        let told = [".json", ".toml"].iter().any(|ending| file.ends_with(ending));
        if !told || file.contains('/') || key.is_empty() {
            return Err(format!("`{file}`: it must be a .json or .toml file at the root, with a key"));
        }
        let compile = |source: &String| {
            let regex = Regex::new(source).map_err(|error| format!("`{source}`: {error}"))?;
            let mut names = regex.group_info().pattern_names(regex_automata::PatternID::ZERO).flatten();
            let has_group = names.any(|name| name == "entrypoint");
            if has_group { Ok(regex) } else { Err(format!("`{source}` has no group named entrypoint")) }
        };
        let pattern = source.as_ref().map(compile).transpose()?;
        Ok(Self { file, key, pattern, source })
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The path that the project's file gives; it need not exist.
    pub(super) fn read(&self, view: &ProjectView<'_>) -> Option<String> {
        let text = std::str::from_utf8(view.content(&self.file)?).ok()?;
        // Editors of Windows write a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        // A file that can't be read says nothing; whoever needs it will complain.
        let document: Value = if self.file.ends_with(".json") {
            serde_json::from_str(text).ok()
        } else {
            toml::from_str(text).ok()
        }?;
        let value = self.key.split('.').try_fold(&document, |value, key| value.get(key))?.as_str()?.trim();
        let path = match &self.pattern {
            None => value,
            Some(pattern) => {
                let mut groups = pattern.create_captures();
                pattern.captures(value, &mut groups);
                &value[groups.get_group_by_name("entrypoint")?.range()]
            }
        };
        Some(path.trim_start_matches("./").trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Contents;

    #[test]
    fn a_pattern_stays_within_a_folder_unless_it_says_so() {
        for (pattern, path, is_match) in [
            ("go.mod", "go.mod", true),
            ("go.mod", "sub/go.mod", false),
            ("*.csproj", "Shop.csproj", true),
            ("*.csproj", "src/Shop.csproj", false),
            ("src/**/Main.java", "src/a/b/Main.java", true),
            ("src/**/Main.java", "src/Main.java", true),
            ("{Main,App}.kt", "App.kt", true),
        ] {
            let pattern = PathPattern::parse(pattern.into()).unwrap();
            assert_eq!(pattern.is_match(path), is_match, "{} {path}", pattern.text());
        }
        assert!(PathPattern::parse("[a".into()).unwrap_err().contains("`[a`"));
    }

    #[test]
    fn a_projects_file_names_the_entrypoint() {
        let start = Some("^node +(?P<entrypoint>[^ -][^ ]*)$");
        for (key, pattern, json, named) in [
            ("main", None, r#"{"main": "./lib/app.js"}"#, Some("lib/app.js")),
            ("main", None, r#"{"main": "lib/"}"#, Some("lib")),
            ("main", None, r#"{"main": 1}"#, None),
            ("main", None, "{", None),
            ("main", None, "\u{feff}", None),
            ("main", None, "\u{feff}{\"main\": \"lib/app.js\"}", Some("lib/app.js")),
            ("scripts.start", start, r#"{"scripts": {"start": "node server.js"}}"#, Some("server.js")),
            ("scripts.start", start, r#"{"scripts": {"start": "node server.js --port 1"}}"#, None),
            ("scripts.start", start, r#"{"scripts": {"start": "node --watch server.js"}}"#, None),
            ("scripts.start", start, r#"{"scripts": {"start": "next start"}}"#, None),
            ("scripts.start", start, r#"{"scripts": "node server.js"}"#, None),
        ] {
            let named_in =
                NamedIn::parse("package.json".into(), key.into(), pattern.map(str::to_owned)).unwrap();
            let contents = Contents::from([("package.json".into(), json.into())]);
            assert_eq!(named_in.read(&ProjectView::of(&[], &contents)).as_deref(), named, "{json}");
        }
        let toml = NamedIn::parse("x.toml".into(), "a.b".into(), None).unwrap();
        let contents = Contents::from([("x.toml".into(), b"[a]\nb = \"c.x\"".to_vec())]);
        assert_eq!(toml.read(&ProjectView::of(&[], &contents)).as_deref(), Some("c.x"));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (file, key, pattern, says) in [
            ("package.yaml", "main", None, "a .json or .toml file"),
            ("sub/package.json", "main", None, "at the root"),
            ("package.json", "", None, "with a key"),
            ("package.json", "main", Some("("), "`(`"),
            ("package.json", "main", Some("(?P<file>x)"), "no group named entrypoint"),
        ] {
            let error = NamedIn::parse(file.into(), key.into(), pattern.map(str::to_owned)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
