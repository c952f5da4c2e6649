//! What a compiler or interpreter said of an error: its type, file, line and message, found by the patterns of the
//! language's `runtime.toml`.

use regex_automata::meta::Regex;
use serde::{Deserialize, Serialize};

use crate::runtime::{BUILD_DIR, WORKSPACE};

/// A program can write what it likes; longer parts are cut.
const MAX_PART: usize = 1_000;

/// What went wrong, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The language's own word for it, such as `KeyError`.
    pub kind: Option<String>,
    /// The file of the project, relative.
    pub file: Option<String>,
    /// Its line, from 1.
    pub line: Option<u32>,
    /// What was said.
    pub message: Option<String>,
}

/// One way in which a language tells of errors: a regular expression with groups named `type`, `file`, `line` and
/// `message`, not all of them.
#[derive(Debug, Clone)]
pub struct ErrorPattern {
    source: String,
    regex: Regex,
    /// The type of all that it matches, where no group tells.
    kind: Option<String>,
    /// The last match tells, not the first.
    last: bool,
}

impl PartialEq for ErrorPattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, &self.kind, self.last) == (&other.source, &other.kind, other.last)
    }
}

impl ErrorPattern {
    /// Reads a pattern as it stands in a `runtime.toml`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn parse(source: String, kind: Option<String>, last: bool) -> Result<Self, String> {
        let regex = Regex::new(&source).map_err(|error| match error.syntax_error() {
            Some(syntax) => format!("`{source}`: {syntax}"),
            None => format!("`{source}`: {error}"),
        })?;
        let known = ["type", "file", "line", "message"];
        let mut names = regex.group_info().pattern_names(regex_automata::PatternID::ZERO).flatten();
        if let Some(name) = names.find(|name| !known.contains(name)) {
            return Err(format!("`{source}`: its groups can be named {}, not {name}", known.join(", ")));
        }
        Ok(Self { source, regex, kind, last })
    }

    /// What its first, or last, match tells. A match in a file that is not of the project is none.
    fn find(&self, text: &str) -> Option<Diagnosis> {
        let mut matches = self.regex.captures_iter(text).filter_map(|groups| {
            let part = |name| {
                groups
                    .get_group_by_name(name)
                    .map(|span| cut(text[span.range()].trim()))
                    .filter(|part| !part.is_empty())
            };
            let file = match part("file") {
                Some(file) => Some(own_file(&file)?),
                None => None,
            };
            let line = part("line").and_then(|line| line.parse().ok());
            let kind = part("type").or_else(|| self.kind.clone());
            Some(Diagnosis { kind, file, line, message: part("message") })
        });
        if self.last { matches.last() } else { matches.next() }
    }
}

/// How a language ends a program when its own heap is full, which takes its size from the container's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct FullHeap {
    exit_code: i32,
    said: ErrorPattern,
}

impl FullHeap {
    /// Reads one as it stands in a `runtime.toml`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the pattern.
    pub(super) fn parse(exit_code: i32, pattern: String) -> Result<Self, String> {
        Ok(Self { exit_code, said: ErrorPattern::parse(pattern, None, false)? })
    }

    /// Whether a program that ended with this code and wrote this to standard error ended so.
    pub(super) fn is_told_by(&self, exit_code: i32, text: &str) -> bool {
        self.exit_code == exit_code && self.said.regex.is_match(text)
    }
}

/// What all patterns together tell: of each part, what the first one says that says anything. A line and its file
/// belong together.
pub(super) fn diagnose(patterns: &[ErrorPattern], text: &str) -> Option<Diagnosis> {
    let mut told = Diagnosis::default();
    for found in patterns.iter().filter_map(|pattern| pattern.find(text)) {
        if told.file.is_none() && told.line.is_none() {
            (told.file, told.line) = (found.file, found.line);
        }
        told.kind = told.kind.or(found.kind);
        told.message = told.message.or(found.message);
    }
    (told != Diagnosis::default()).then_some(told)
}

/// The path as the project has it; `None` for a file of the language's own.
fn own_file(path: &str) -> Option<String> {
    let relative = match path.strip_prefix(WORKSPACE).and_then(|rest| rest.strip_prefix('/')) {
        Some(relative) => relative,
        None if path.starts_with(['/', '<']) => return None,
        None => path.strip_prefix("./").unwrap_or(path),
    };
    let is_built = relative.split('/').next() == Some(BUILD_DIR);
    (!is_built && !relative.is_empty()).then(|| relative.to_owned())
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_PART).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(source: &str, kind: Option<&str>, last: bool) -> ErrorPattern {
        ErrorPattern::parse(source.into(), kind.map(str::to_owned), last).unwrap()
    }

    fn told(kind: &str, file: &str, line: u32, message: &str) -> Diagnosis {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Diagnosis {
            kind: some(kind),
            file: some(file),
            line: (line > 0).then_some(line),
            message: some(message),
        }
    }

    #[test]
    fn each_part_is_told_by_the_first_pattern_that_tells_it() {
        let patterns = [
            pattern("(?m)^at (?P<file>[^:]+):(?P<line>[0-9]+)$", None, true),
            pattern("(?m)^(?P<type>[A-Z][a-z]+): (?P<message>.*)$", None, false),
            pattern("(?m)^(?P<file>[a-z.]+) is wrong", Some("Wrong"), false),
        ];
        for (text, expected) in [
            ("", None),
            ("nothing of the kind", None),
            ("Oops: it broke\nat a.x:1\nat /work/lib/b.x:22", Some(told("Oops", "lib/b.x", 22, "it broke"))),
            // Frames of the language itself are none of the project's.
            ("at a.x:1\nat /usr/lib/c.x:3\nat <eval>:4\nat /work/.execbox/d:5", Some(told("", "a.x", 1, ""))),
            ("at ./a.x:7", Some(told("", "a.x", 7, ""))),
            ("main.x is wrong", Some(told("Wrong", "main.x", 0, ""))),
            ("at a.x:99999999999", Some(told("", "a.x", 0, ""))),
        ] {
            assert_eq!(diagnose(&patterns, text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_program_makes_up_is_cut() {
        let long = format!("Oops: {}", "\u{e9}".repeat(5_000));
        let found = diagnose(&[pattern("Oops: (?P<message>.*)", None, false)], &long).unwrap();
        assert_eq!(found.message.unwrap().chars().count(), MAX_PART);
    }

    #[test]
    fn a_faulty_pattern_is_refused_with_the_reason() {
        for (source, says) in [("(", "unclosed group"), ("(?P<path>x)", "not path")] {
            let error = ErrorPattern::parse(source.into(), None, false).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
