//! From what a caller writes in `language` to a runtime: `python`, `py`, `python@3.13`, `python@>=3.11,<4`.

use std::sync::Arc;

use semver::VersionReq;

use crate::runtime::error::shown;
use crate::runtime::near::{MAX_LENGTH, nearest};
use crate::runtime::{Catalogue, Runtime, RuntimeError};

impl Catalogue {
    /// The newest runtime that answers to this name, alias, or `name@version`, whatever the case of its letters. A
    /// version of numbers alone stands for everything that begins with it (`3` for 3.13); all else is a semver range.
    ///
    /// # Errors
    /// No such language, or not at such a version.
    pub fn resolve(&self, asked: &str) -> Result<Arc<Runtime>, RuntimeError> {
        let (name, version) = match asked.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (asked, None),
        };
        let unknown = || RuntimeError::UnknownLanguage { asked: shown(asked), nearest: self.nearest(name) };
        if name.len() > MAX_LENGTH {
            return Err(unknown());
        }
        let language = self.language(&name.to_ascii_lowercase()).ok_or_else(unknown)?;
        let found = match version {
            None => self.versions(language).next(),
            Some(version) => requirement(version)
                .and_then(|wanted| self.versions(language).find(|runtime| wanted.matches(&runtime.semver()))),
        };
        found.cloned().ok_or_else(|| RuntimeError::UnknownVersion {
            language: language.to_owned(),
            asked: shown(version.unwrap_or_default()),
            offered: self.versions(language).map(|runtime| runtime.version.clone()).collect(),
        })
    }

    /// The language that has this name or alias.
    fn language(&self, name: &str) -> Option<&str> {
        let has_name = |runtime: &&Arc<Runtime>| {
            runtime.name == name || runtime.aliases.iter().any(|alias| alias == name)
        };
        self.runtimes().iter().find(has_name).map(|runtime| runtime.name.as_str())
    }

    /// Names that a person may have meant, best first.
    fn nearest(&self, name: &str) -> Vec<String> {
        if name.len() > MAX_LENGTH {
            return Vec::new();
        }
        let name = name.to_ascii_lowercase();
        if let Some(versioned) = self.with_version(&name) {
            return vec![versioned];
        }
        let names =
            self.runtimes().iter().flat_map(|runtime| std::iter::once(&runtime.name).chain(&runtime.aliases));
        nearest(&name, names.map(String::as_str)).into_iter().map(str::to_owned).collect()
    }
}

impl Catalogue {
    /// What is meant by `python3.11` and `node-20`: a name with a version at its end, as images and binaries have them.
    fn with_version(&self, name: &str) -> Option<String> {
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        let version = &name[stem.len()..];
        let language = self.language(stem.trim_end_matches(['-', '_', ' ', ':', '=']))?;
        let exact = format!("{language}@{version}");
        Some(if self.resolve(&exact).is_ok() { exact } else { language.to_owned() })
    }
}

fn requirement(version: &str) -> Option<VersionReq> {
    if version.len() > MAX_LENGTH {
        return None;
    }
    let only_numbers = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // A bare number would stand for `^`: `3.11` would find 3.13.
    let range = if only_numbers { format!("={version}") } else { version.to_owned() };
    VersionReq::parse(&range).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::catalogue::tests::catalogue_of;

    fn catalogue() -> Catalogue {
        catalogue_of(&[
            ("python", "3.13", &["py", "python3"], &["py"]),
            ("python", "3.9.2", &["py"], &["py"]),
            ("node", "20.19", &["js", "nodejs"], &["js"]),
            ("c++", "14", &["cpp"], &["cpp"]),
        ])
    }

    #[test]
    fn names_aliases_and_versions_find_a_runtime() {
        for (asked, name, version) in [
            ("python", "python", "3.13"),
            ("Python", "python", "3.13"),
            ("py", "python", "3.13"),
            ("python3", "python", "3.13"),
            ("python@3", "python", "3.13"),
            ("python@3.13", "python", "3.13"),
            ("python@3.9", "python", "3.9.2"),
            ("py@3.9.2", "python", "3.9.2"),
            ("python@^3", "python", "3.13"),
            ("python@>=3.8, <3.12", "python", "3.9.2"),
            ("python@~3.9", "python", "3.9.2"),
            ("python@*", "python", "3.13"),
            ("nodejs", "node", "20.19"),
            ("c++", "c++", "14"),
            ("c++@14", "c++", "14"),
        ] {
            let found = catalogue().resolve(asked).unwrap_or_else(|error| panic!("{asked}: {error}"));
            assert_eq!((found.name.as_str(), found.version.as_str()), (name, version), "{asked}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        for (asked, code, says) in [
            ("", "unknown_language", "`` is no language"),
            ("pyhton", "unknown_language", "did you mean python"),
            ("nodesj", "unknown_language", "did you mean nodejs"),
            ("python3.9", "unknown_language", "did you mean python@3.9?"),
            ("Python-3.13", "unknown_language", "did you mean python@3.13?"),
            ("node20", "unknown_language", "did you mean node@20?"),
            ("node:18.1", "unknown_language", "did you mean node?"),
            ("cobol", "unknown_language", "GET /api/v1/runtimes"),
            ("../x", "unknown_language", "../x"),
            ("python;rm", "unknown_language", "python;rm"),
            ("\u{440}ython", "unknown_language", r"\u{440}ython"),
            ("@3", "unknown_language", "@3"),
            ("python@3.11", "unknown_version", "python 3.13, 3.9.2, not `3.11`"),
            ("python@4", "unknown_version", "not `4`"),
            ("python@", "unknown_version", "not ``"),
            ("python@latest", "unknown_version", "not `latest`"),
            ("python@3@4", "unknown_version", "not `3@4`"),
            ("python@..", "unknown_version", "GET /api/v1/runtimes"),
        ] {
            let error = catalogue().resolve(asked).unwrap_err();
            assert_eq!(error.code(), code, "{asked}");
            assert!(error.to_string().contains(says), "{asked}: {error}");
        }
    }

    #[test]
    fn long_names_are_refused_without_being_echoed() {
        for asked in ["x".repeat(10_240), format!("python@{}", "9".repeat(10_240)), "\u{7}".repeat(10_240)] {
            let error = catalogue().resolve(&asked).unwrap_err().to_string();
            assert!(error.len() < 250, "{} bytes: {error}", error.len());
        }
    }
}
