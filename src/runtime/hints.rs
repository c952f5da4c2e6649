//! Hints for a caller whose program failed at a common dead end: sentences that a language's `runtime.toml` has for what
//! compilers and programs write, and those that hold for every language.

use std::sync::LazyLock;

use regex_automata::meta::Regex;
use serde::Deserialize;

use crate::archive::{Entry, EntryKind};
use crate::runtime::signs::PathPattern;

/// Characters of a group's text in a hint: a program can write what it likes.
const MAX_GROUP: usize = 100;

/// What a request left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// Standard input.
    Stdin,
    /// The names of the script contract.
    Script,
    /// Packages to be installed.
    Packages,
}

/// A `[[hints]]` of a `runtime.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// A regular expression of what the compiler or the failed program writes. None: the program succeeds without a word.
    pattern: Option<String>,
    /// The sentence; `{NAME}` stands for the group of that name.
    message: String,
    /// The hint holds only for requests that lack this.
    without: Option<Lack>,
    /// The hint holds only for projects with a file that fits this path or glob.
    beside: Option<String>,
}

/// One hint.
#[derive(Debug, Clone)]
pub struct Hint {
    said: Option<Regex>,
    source: Option<String>,
    message: String,
    without: Option<Lack>,
    beside: Option<PathPattern>,
}

impl PartialEq for Hint {
    fn eq(&self, other: &Self) -> bool {
        let parts =
            |hint: &Self| (hint.source.clone(), hint.message.clone(), hint.without, hint.beside.clone());
        parts(self) == parts(other)
    }
}

/// Facts of an execution by which hints are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What the compiler or the failed program wrote; `None` for a program that succeeded without a word.
    pub said: Option<&'a str>,
    /// What its request left out.
    pub lacks: &'a [Lack],
    /// The paths and globs of hints that fit files of the project.
    pub beside: &'a [String],
}

impl Hint {
    /// Reads a hint as it stands in a `runtime.toml`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the pattern or the glob.
    pub(super) fn parse(manifest: Manifest) -> Result<Self, String> {
        let Manifest { pattern, message, without, beside } = manifest;
        let compile = |text: &String| Regex::new(text).map_err(|error| format!("`{text}`: {error}"));
        let said = pattern.as_ref().map(compile).transpose()?;
        let beside = beside.map(PathPattern::parse).transpose()?;
        if said.is_none() && beside.is_none() {
            return Err("a hint needs a `pattern` or a `beside`".to_owned());
        }
        Ok(Self { said, source: pattern, message, without, beside })
    }

    /// The sentence for this execution, where the hint is for it.
    fn of(&self, situation: &Situation<'_>) -> Option<String> {
        let fits = |beside: &PathPattern| situation.beside.iter().any(|found| found == beside.text());
        let holds = self.without.is_none_or(|lack| situation.lacks.contains(&lack))
            && self.beside.as_ref().is_none_or(fits);
        if !holds {
            return None;
        }
        match (&self.said, situation.said) {
            (None, None) => Some(self.message.clone()),
            (Some(said), Some(text)) => {
                let groups = said.captures_iter(text).next()?;
                let names = said.group_info().pattern_names(regex_automata::PatternID::ZERO).flatten();
                Some(names.fold(self.message.clone(), |message, name| {
                    let found = groups.get_group_by_name(name).map_or("", |span| &text[span.range()]);
                    let shown: String = found.chars().take(MAX_GROUP).collect();
                    message.replace(&format!("{{{name}}}"), &shown)
                }))
            }
            _ => None,
        }
    }
}

/// The paths and globs of these hints that fit a file of the project.
pub(super) fn fitting(hints: &[Hint], entries: &[Entry]) -> Vec<String> {
    let is_there = |beside: &&PathPattern| {
        let mut files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        files.any(|entry| beside.is_match(&entry.path))
    };
    let beside = hints.iter().filter_map(|hint| hint.beside.as_ref());
    beside.filter(is_there).map(|beside| beside.text().to_owned()).collect()
}

/// At most one sentence of the language's own, the first that holds, and one that holds for every language.
pub(super) fn sentences(hints: &[Hint], situation: &Situation<'_>) -> Vec<String> {
    let own = hints.iter().find_map(|hint| hint.of(situation));
    let common = COMMON.iter().find_map(|hint| hint.of(situation));
    own.into_iter().chain(common).collect()
}

/// Hints for programs of every language.
static COMMON: LazyLock<Vec<Hint>> = LazyLock::new(|| {
    let network = "(?i)name resolution|name or service not known|could not resolve|getaddrinfo|UnknownHostException|no such host\
                   |network is unreachable|nodename nor servname";
    [(network, "programs run without a network: send what the program needs with the project")]
        .into_iter()
        .filter_map(|(pattern, message)| {
            let manifest = Manifest {
                pattern: Some(pattern.to_owned()),
                message: message.to_owned(),
                without: None,
                beside: None,
            };
            Hint::parse(manifest).ok()
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str) -> Hint {
        Hint::parse(toml::from_str(text).unwrap()).unwrap()
    }

    fn told(hints: &[Hint], said: Option<&str>, lacks: &[Lack], beside: &[&str]) -> Vec<String> {
        let beside: Vec<_> = beside.iter().map(|&path| path.to_owned()).collect();
        sentences(hints, &Situation { said, lacks, beside: &beside })
    }

    #[test]
    fn the_first_hint_that_holds_is_told_with_its_groups() {
        let hints = [
            hint(
                "pattern = \"no module (?P<name>[a-z]+)\"\nmessage = \"read {name} by install\"\nbeside = \"list.txt\"\nwithout = \"packages\"",
            ),
            hint("pattern = \"no module (?P<name>[a-z]+)\"\nmessage = \"name {name}\""),
            hint("pattern = \"EOF\"\nmessage = \"give stdin\"\nwithout = \"stdin\""),
            hint("message = \"the tests were not run\"\nbeside = \"test_*.x\""),
        ];
        let lacks = [Lack::Packages];
        assert_eq!(told(&hints, Some("no module abc"), &lacks, &["list.txt"]), ["read abc by install"]);
        assert_eq!(told(&hints, Some("no module abc"), &lacks, &[]), ["name abc"]);
        assert_eq!(told(&hints, Some("no module abc"), &[], &["list.txt"]), ["name abc"]);
        assert_eq!(told(&hints, Some("EOF"), &[], &[]), Vec::<String>::new());
        assert_eq!(told(&hints, Some("EOF"), &[Lack::Stdin], &[]), ["give stdin"]);
        assert_eq!(told(&hints, None, &[], &["test_*.x"]), ["the tests were not run"]);
        assert_eq!(told(&hints, Some("x"), &[], &["test_*.x"]), Vec::<String>::new());
    }

    #[test]
    fn programs_that_look_for_a_network_are_told_in_every_language() {
        for said in [
            "socket.gaierror: [Errno -3] Temporary failure in name resolution",
            "java.net.UnknownHostException: example.com",
            "getaddrinfo EAI_AGAIN example.com",
            "dial tcp: lookup example.com: no such host",
            "curl: (6) Could not resolve host: example.com",
            "connect: Network is unreachable",
        ] {
            assert!(
                told(&[], Some(said), &[], &[])[0].starts_with("programs run without a network"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_hint_without_a_condition_is_refused() {
        let manifest = toml::from_str("message = \"x\"").unwrap();
        assert!(Hint::parse(manifest).unwrap_err().contains("`pattern` or a `beside`"));
    }
}
