//! Why a request and the catalogue do not fit together: always the caller's doing.

use crate::runtime::Feature;

/// What a caller named that is not there, or did not name and can't be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// No runtime has this name or alias.
    #[error("language: `{asked}` is no language of this server{}; GET /api/v1/runtimes lists them", did_you_mean(.nearest))]
    UnknownLanguage {
        /// What was asked for, escaped and cut.
        asked: String,
        /// Names that are spelt much the same.
        nearest: Vec<String>,
    },
    /// The language is there, but not at this version.
    #[error("language: this server has {language} {}, not `{asked}`; GET /api/v1/runtimes lists them", .offered.join(", "))]
    UnknownVersion {
        /// The language.
        language: String,
        /// What was asked for, escaped and cut.
        asked: String,
        /// Versions that are there.
        offered: Vec<String>,
    },
    /// No language has the entrypoint's extension.
    #[error(
        "language: no language of this server has files like `{entrypoint}`; name one in `language` (GET /api/v1/runtimes lists them)"
    )]
    UnknownExtension {
        /// The entrypoint, escaped and cut.
        entrypoint: String,
    },
    /// The project could be in several languages.
    #[error("language: the project could be {}; name its `entrypoint` or its `language`", any_of(.candidates))]
    AmbiguousLanguage {
        /// The languages.
        candidates: Vec<Candidate>,
    },
    /// No file tells a language.
    #[error(
        "entrypoint: none is named, and none is found: the project has no main.py, main.js, Main.java or other file of a language of this server (GET /api/v1/runtimes lists them)"
    )]
    NoLanguage,
    /// No file of the project is an entrypoint by its name.
    #[error("entrypoint: none is named, and none is found: the project has no {looked_for}{}", choose(.sources))]
    NoEntrypoint {
        /// What was looked for.
        looked_for: String,
        /// Files that could be meant, escaped and cut.
        sources: Vec<String>,
    },
    /// The compiler has nothing to compile.
    #[error("entrypoint: the project has no file that matches {glob}, which is what the language compiles{}", but_for(.left_out))]
    NoSources {
        /// The template's glob.
        glob: String,
        /// Files that match and that the compiler does not get, escaped and cut.
        left_out: Vec<String>,
    },
    /// The language can't do something that not every one can.
    #[error("{}: {language} can't do that{}; leave the field out", .feature.field(), who_can(.able))]
    NotAble {
        /// What was asked for.
        feature: Feature,
        /// The language.
        language: String,
        /// Languages that can.
        able: Vec<String>,
    },
}

impl RuntimeError {
    /// The stable word.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownLanguage { .. } | Self::UnknownExtension { .. } => "unknown_language",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::AmbiguousLanguage { .. } => "ambiguous_language",
            Self::NoEntrypoint { .. } | Self::NoLanguage | Self::NoSources { .. } => "no_entrypoint",
            Self::NotAble { feature, .. } => feature.code(),
        }
    }
}

/// A language that a project could be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub language: String,
    /// The file that it would start at, or several that it could; escaped and cut.
    pub starts: Vec<String>,
}

fn any_of(candidates: &[Candidate]) -> String {
    let shown = candidates.iter().map(|candidate| match candidate.starts.as_slice() {
        [] => candidate.language.clone(),
        [start] => format!("{} ({start})", candidate.language),
        several => format!("{} (one of {})", candidate.language, some_of(several)),
    });
    shown.collect::<Vec<_>>().join(" or ")
}

fn choose(sources: &[String]) -> String {
    if sources.is_empty() { String::new() } else { format!("; name one of {}", some_of(sources)) }
}

fn but_for(left_out: &[String]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let some = some_of(left_out);
    format!(
        ", but for hidden files, tests and what builds make ({some}); name one as the `entrypoint` to run it"
    )
}

/// The first few of them.
fn some_of(names: &[String]) -> String {
    const MOST: usize = 5;
    let more = if names.len() > MOST { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(MOST)].join(", "))
}

fn who_can(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", as {} can", names.join(", ")) }
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(" or ")) }
}

/// A caller's text as it may be echoed: escaped, and at most 100 characters of it.
#[must_use]
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let mut escaped: String = text.chars().flat_map(char::escape_default).take(MOST + 1).collect();
    if escaped.len() > MOST {
        escaped.truncate(MOST - 3);
        escaped.push_str("...");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn text_is_echoed_escaped_and_cut() {
        assert_eq!(shown("python"), "python");
        assert_eq!(shown("a\u{1b}[31m\n"), r"a\u{1b}[31m\n");
        assert_eq!(shown("\u{440}ython"), r"\u{440}ython");
        assert_eq!(shown(&"x".repeat(100)).len(), 100);
        let cut = shown(&"\u{1f600}".repeat(10_000));
        assert!(cut.len() <= 100 && cut.ends_with("..."), "{cut}");
    }
}
