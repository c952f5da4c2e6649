//! Advice on sources: regular expressions from `runtime.toml`, each with a sentence. It finds what is written plainly, and
//! so informs; it never protects (`docs/lint.md`).

use std::sync::{Arc, OnceLock};

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

/// What is worth a word in the sources of a language.
#[derive(Debug, Clone, Default)]
pub struct Lint {
    rules: Arc<Vec<Rule>>,
    /// Made when it is first used: most servers lint few languages, or none.
    compiled: Arc<OnceLock<Option<Regex>>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    pattern: String,
    message: String,
}

/// A place in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding<'a> {
    /// From 1.
    pub line: usize,
    /// What is there.
    pub message: &'a str,
}

impl PartialEq for Lint {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Lint {
    /// Patterns and their messages, as they stand in a `runtime.toml`.
    ///
    /// # Errors
    /// A sentence that names the pattern and what is wrong with it.
    pub(super) fn parse(rules: Vec<(String, String)>) -> Result<Self, String> {
        for (pattern, message) in &rules {
            syntax::parse_with(pattern, &syntax_of_sources())
                .map_err(|error| format!("`{pattern}`: {error}"))?;
            if message.is_empty() || message.contains(char::is_control) {
                return Err(format!("`{pattern}`: its message must be one line"));
            }
        }
        let rules = rules.into_iter().map(|(pattern, message)| Rule { pattern, message }).collect();
        Ok(Self { rules: Arc::new(rules), compiled: Arc::default() })
    }

    /// Whether nothing would ever be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first findings in a source, at most `most`, in order, one of each kind for a line. `None` when the patterns
    /// are too large to be used.
    #[must_use]
    pub fn findings(&self, source: &[u8], most: usize) -> Option<Vec<Finding<'_>>> {
        let regex = self.compiled.get_or_init(|| self.compile()).as_ref()?;
        let (mut line, mut counted) = (1, 0);
        let mut findings: Vec<Finding<'_>> = Vec::new();
        for found in regex.find_iter(source) {
            // A pattern may begin with the blanks before what it is about.
            let blanks = source[found.range()].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let start = found.start() + blanks;
            line += source[counted..start].iter().filter(|byte| **byte == b'\n').count();
            counted = start;
            let finding = Finding { line, message: &self.rules[found.pattern()].message };
            if !findings.contains(&finding) {
                if findings.len() == most {
                    break;
                }
                findings.push(finding);
            }
        }
        Some(findings)
    }

    fn compile(&self) -> Option<Regex> {
        let patterns: Vec<&str> = self.rules.iter().map(|rule| rule.pattern.as_str()).collect();
        let compiled = Regex::builder().syntax(syntax_of_sources()).build_many(&patterns);
        compiled.inspect_err(|error| tracing::error!(%error, "the patterns of a lint can't be used")).ok()
    }
}

/// Sources may be in any encoding, and a pattern is about lines.
pub(super) fn syntax_of_sources() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).multi_line(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(rules: &[(&str, &str)]) -> Result<Lint, String> {
        Lint::parse(rules.iter().map(|(pattern, message)| ((*pattern).into(), (*message).into())).collect())
    }

    #[test]
    fn findings_tell_line_and_kind_once() {
        let lint = lint(&[(r"\beval\s*\(", "evaluates"), (r"^\s*import socket\b", "network")]).unwrap();
        let source =
            b"\n\n  import socket\nx = \xff\xfe eval (1) + eval(2)\n\n# import socket\nmyeval(1); eval(3)\n";
        let found: Vec<_> =
            lint.findings(source, 9).unwrap().iter().map(|found| (found.line, found.message)).collect();
        assert_eq!(found, [(3, "network"), (4, "evaluates"), (7, "evaluates")]);
        assert_eq!(lint.findings(source, 2).unwrap().len(), 2);
        assert!(Lint::default().findings(source, 9).unwrap().is_empty());
    }

    #[test]
    fn a_faulty_rule_is_refused_with_the_reason() {
        for (rule, says) in [(("(", "m"), "`(`: "), (("x", ""), "one line"), (("x", "a\nb"), "one line")] {
            let error = lint(&[rule]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn patterns_that_grow_too_large_find_nothing_and_say_so() {
        let huge = lint(&[("((a{500}){500}){500}", "m")]).unwrap();
        assert_eq!(huge.findings(b"x", 9), None);
    }
}
