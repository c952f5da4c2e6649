//! `requirements.txt`, read by ourselves: of what pip understands only names with versions, and what narrows those down.
//!
//! What the installer gets is written anew from what was understood, so that nothing else can reach it.

use std::collections::BTreeSet;

use crate::runtime::shown;

/// Bytes of the file.
const MAX_BYTES: usize = 256 << 10;
/// Requirements in it.
const MAX_LINES: usize = 500;
/// Bytes of a name, an extra, a version or a word of a marker.
const MAX_WORD: usize = 100;
/// Hashes of one requirement: a package has one for each system that it was built for.
const MAX_HASHES: usize = 200;
/// The hashes that pip takes, with their digits.
const HASHES: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];
/// What a marker can ask for.
const VARIABLES: [&str; 11] = [
    "os_name",
    "sys_platform",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_version",
    "python_full_version",
    "implementation_name",
    "implementation_version",
];
/// Longer ones first, for they begin with the shorter.
const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// Why a file was refused: which line, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// From 1.
    line: usize,
    /// What it says, escaped and cut.
    text: String,
    why: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, text, why } = self;
        write!(f, "line {line}, `{text}`, {why}")
    }
}

/// The same requirements in one form: names as the index has them, one on a line, sorted, each once. `unpinned`: other
/// versions than one are fine, too.
pub(super) fn canonical(text: &str, unpinned: bool) -> Result<String, Fault> {
    let fault = |line, text: &str, why: &str| Fault { line, text: shown(text), why: why.to_owned() };
    if text.len() > MAX_BYTES {
        return Err(fault(1, "", &format!("is the first of more than {MAX_BYTES} bytes")));
    }
    let mut found = BTreeSet::new();
    for (line, text) in logical_lines(text) {
        let requirement = text.and_then(|text| match Line(text.as_str()).requirement(unpinned) {
            Ok(requirement) => Ok(requirement),
            Err(why) => Err((text, why)),
        });
        match requirement {
            Ok(None) => {}
            Ok(Some(requirement)) => drop(found.insert(requirement)),
            Err((text, why)) => return Err(fault(line, &text, &why)),
        }
        if found.len() > MAX_LINES {
            return Err(fault(line, "", &format!("is one more than the {MAX_LINES} that are taken")));
        }
    }
    Ok(found.into_iter().map(|line| line + "\n").collect())
}

/// Lines with their numbers, without comments; those that end in a backslash joined with the next.
#[allow(clippy::type_complexity)]
fn logical_lines(text: &str) -> Vec<(usize, Result<String, (String, String)>)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (first, mut whole) = open.take().unwrap_or((index + 1, String::new()));
        let is_joined = !whole.is_empty();
        let bare = without_comment(line);
        if is_joined && bare.len() != line.len() {
            let why = "has a comment inside a requirement; put it on a line before".to_owned();
            lines.push((index + 1, Err((line.to_owned(), why))));
            continue;
        }
        match bare.strip_suffix('\\') {
            Some(start) => {
                whole.push_str(start);
                whole.push(' ');
                open = Some((first, whole));
            }
            None => {
                whole.push_str(bare);
                lines.push((first, Ok(whole)));
            }
        }
    }
    if let Some((first, whole)) = open {
        lines.push((first, Err((whole, "ends in a backslash with no line after it".to_owned()))));
    }
    lines
}

/// As pip does: from a `#` at the start or after a space.
fn without_comment(line: &str) -> &str {
    let starts = |(at, _): &(usize, &str)| {
        line[..*at].chars().next_back().is_none_or(|before| before == ' ' || before == '\t')
    };
    let end = line.match_indices('#').find(starts).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

/// The rest of a line.
struct Line<'a>(&'a str);

type Parsed<T> = Result<T, String>;

impl<'a> Line<'a> {
    /// `None` for an empty line.
    fn requirement(mut self, unpinned: bool) -> Parsed<Option<String>> {
        self.skip();
        if self.0.is_empty() {
            return Ok(None);
        }
        if let Some(odd) = self.0.chars().find(|c| !matches!(c, '\t' | ' '..='~')) {
            return Err(format!("holds {}, which no requirement has", odd.escape_unicode()));
        }
        self.refuse_other_kinds()?;
        let mut text = normal_name(self.word("a package's name")?)?;
        text.push_str(&self.extras()?);
        self.skip();
        text.push_str(&self.versions(unpinned)?);
        self.skip();
        if self.eat(";") {
            text.push_str(" ; ");
            text.push_str(&self.marker(0)?);
        }
        for hash in self.hashes()? {
            text.push_str(" --hash=");
            text.push_str(&hash);
        }
        self.skip();
        if !self.0.is_empty() {
            return Err(format!("has `{}` where its end should be", shown(self.0)));
        }
        Ok(Some(text))
    }

    /// Sentences of their own for what people write often.
    fn refuse_other_kinds(&self) -> Parsed<()> {
        let kind = if self.0.starts_with('-') {
            "an option"
        } else if self.0.contains("://") || self.0.contains('@') {
            "an address"
        } else if self.0.starts_with(['.', '/', '~', '\\']) || self.0.contains(".whl") || self.0.contains('/')
        {
            "a path"
        } else {
            return Ok(());
        };
        Err(format!("is {kind}; only packages of this server's index are taken, as name==version"))
    }

    fn skip(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.0.strip_prefix(word);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Letters, digits and what may stand between them; with a letter or digit at both ends.
    fn word(&mut self, what: &str) -> Parsed<&'a str> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let end = self.0.find(|c| !is_inner(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        let is_outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if word.len() <= MAX_WORD && is_outer(word.chars().next()) && is_outer(word.chars().next_back()) {
            return Ok(word);
        }
        Err(format!("has `{}` where {what} should be", shown(&format!("{word}{rest}"))))
    }

    fn extras(&mut self) -> Parsed<String> {
        self.skip();
        if !self.eat("[") {
            return Ok(String::new());
        }
        let mut extras = BTreeSet::new();
        loop {
            self.skip();
            extras.insert(normal_name(self.word("an extra's name")?)?);
            self.skip();
            if self.eat("]") {
                return Ok(format!("[{}]", extras.into_iter().collect::<Vec<_>>().join(",")));
            }
            if !self.eat(",") {
                return Err("has extras without a `]` at their end".to_owned());
            }
        }
    }

    fn versions(&mut self, unpinned: bool) -> Parsed<String> {
        let mut versions = BTreeSet::new();
        let mut pinned = false;
        while let Some(operator) = OPERATORS.into_iter().find(|operator| self.eat(operator)) {
            self.skip();
            let version = self.version(operator)?;
            pinned |= matches!(operator, "==" | "===") && !version.ends_with('*');
            versions.insert(format!("{operator}{version}"));
            self.skip();
            if !self.eat(",") {
                break;
            }
            self.skip();
        }
        if !pinned && !unpinned {
            return Err("names no single version; write name==version (the operator can allow others: --allow-unpinned)".to_owned());
        }
        if pinned && versions.len() > 1 && !unpinned {
            return Err("has more than one version; write name==version".to_owned());
        }
        Ok(versions.into_iter().collect::<Vec<_>>().join(","))
    }

    fn version(&mut self, operator: &str) -> Parsed<String> {
        let end = self.0.find(|c: char| !(c.is_ascii_alphanumeric() || ".!+_-*".contains(c)));
        let (version, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        let plain = version.strip_suffix(".*").filter(|_| matches!(operator, "==" | "!=")).unwrap_or(version);
        let is_version = plain.len() <= MAX_WORD
            && !plain.contains('*')
            && plain.starts_with(|c: char| c.is_ascii_alphanumeric())
            && plain.ends_with(|c: char| c.is_ascii_alphanumeric())
            && plain.contains(|c: char| c.is_ascii_digit());
        if !is_version {
            return Err(format!("has `{}` where a version should be", shown(self.0)));
        }
        self.0 = rest;
        Ok(version.to_ascii_lowercase())
    }

    /// `a == 'b' and (c < 'd' or ...)`, written anew.
    fn marker(&mut self, depth: usize) -> Parsed<String> {
        if depth > 4 {
            return Err("has a marker of too many parentheses".to_owned());
        }
        let mut text = String::new();
        loop {
            self.skip();
            if self.eat("(") {
                text.push_str(&format!("({})", self.marker(depth + 1)?));
                self.skip();
                if !self.eat(")") {
                    return Err("has a marker without a `)` at its end".to_owned());
                }
            } else {
                text.push_str(&self.comparison()?);
            }
            self.skip();
            let Some(joint) = ["and ", "or "].into_iter().find(|joint| self.eat(joint)) else {
                return Ok(text);
            };
            text.push_str(&format!(" {joint}"));
        }
    }

    fn comparison(&mut self) -> Parsed<String> {
        let left = self.operand()?;
        self.skip();
        let words = ["not in ", "in "];
        let operator = OPERATORS.into_iter().chain(words).find(|operator| self.eat(operator));
        let Some(operator) = operator else { return Err("has a marker that compares nothing".to_owned()) };
        self.skip();
        Ok(format!("{left} {} {}", operator.trim_end(), self.operand()?))
    }

    fn operand(&mut self) -> Parsed<String> {
        self.skip();
        if let Some(quote) = self.0.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let inner = &self.0[1..];
            let end = inner.find(quote).ok_or("has a marker with an open quote")?;
            let (text, rest) = inner.split_at(end);
            let plain = |c: char| c.is_ascii_alphanumeric() || "._+!*-".contains(c);
            if text.len() > MAX_WORD || !text.chars().all(plain) {
                return Err(format!("has a marker with `{}`", shown(text)));
            }
            self.0 = &rest[1..];
            return Ok(format!("\"{text}\""));
        }
        let end = self.0.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        if !VARIABLES.contains(&name) {
            return Err(format!("has a marker with `{}`", shown(self.0)));
        }
        self.0 = rest;
        Ok(name.to_owned())
    }

    fn hashes(&mut self) -> Parsed<BTreeSet<String>> {
        let mut hashes = BTreeSet::new();
        loop {
            self.skip();
            if !self.eat("--hash") {
                return Ok(hashes);
            }
            if !self.eat("=") && !self.eat(" ") {
                return Err("has a hash that is none; write --hash=sha256:...".to_owned());
            }
            let end = self.0.find([' ', '\t']).unwrap_or(self.0.len());
            let (hash, rest) = self.0.split_at(end);
            let is_hash = |(name, digits): &(&str, usize)| {
                let hex = hash.strip_prefix(name).and_then(|hash| hash.strip_prefix(':'));
                hex.is_some_and(|hex| hex.len() == *digits && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            };
            if !HASHES.iter().any(is_hash) || hashes.len() >= MAX_HASHES {
                return Err(format!("has `{}` where --hash=sha256:... should be", shown(hash)));
            }
            hashes.insert(hash.to_ascii_lowercase());
            self.0 = rest;
        }
    }
}

/// As the index has it (PEP 503).
fn normal_name(name: &str) -> Parsed<String> {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if "-_.".contains(c) { '-' } else { c.to_ascii_lowercase() };
        if c != '-' || !normal.ends_with('-') {
            normal.push(c);
        }
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254";

    const BAD: [&str; 75] = [
        "--index-url https://evil.example/simple",
        "-i https://evil.example/simple",
        "--extra-index-url=https://evil.example",
        "-r other.txt",
        "--requirement /etc/passwd",
        "-c constraints.txt",
        "-e .",
        "-e git+https://evil.example/x.git#egg=x",
        "--editable ../x",
        "--no-binary :all:",
        "--find-links file:///",
        "--trusted-host evil.example",
        "--pre",
        "git+https://evil.example/x.git",
        "git+ssh://git@evil.example/x.git@main",
        "hg+http://evil.example/x",
        "https://evil.example/x-1.0.tar.gz",
        "http://evil.example/x.whl#sha256=00",
        "file:///etc/passwd",
        "x @ https://evil.example/x-1.0.whl",
        "x @ file:///tmp/x",
        "x@file:x",
        ".",
        "./x",
        "/tmp/x.tar.gz",
        "../x-1.0.whl",
        "x-1.0-py3-none-any.whl",
        "~/x",
        "C:\\x\\y.whl",
        "six==1.16.0 --index-url https://evil.example",
        "six==1.16.0 --global-option=\"--x\"",
        "six==1.16.0 --config-settings a=b",
        "six==1.16.0 -r x",
        "six==1.16.0 \\\n--index-url https://evil.example",
        "six==1.16.0; python_version < '3' -r x",
        "six==1.16.0; python_version < '3 -r x'",
        "six==1.16.0; extra == 'x'",
        "six==1.16.0; __import__('os')",
        "six==1.16.0; python_version",
        "six==1.16.0; (python_version < '3'",
        "six==${VERSION}",
        "${NAME}==1.0",
        "$HOME",
        "six==",
        "six==1.16.0,==1.17.0",
        "six===",
        "six==../x",
        "six==*",
        "six==1.0 extra",
        "six=1.16.0",
        "six (==1.16.0)",
        "six",
        "six>=1.16.0",
        "six==1.*",
        "==1.0",
        "six[==1.0",
        "six[]==1.0",
        "six[a b]==1.0",
        "-six==1.0",
        "six-==1.0",
        "s\u{456}x==1.0",
        "six==1.0\u{a0}",
        "six==1.0\u{0}",
        "six==1.0\u{2028}-r x",
        "six==1.0\u{b}-r x",
        "six==1.0\r-r x",
        "six==1.0 --hash=md5:d41d8cd98f00b204e9800998ecf8427e",
        "six==1.0 --hash=sha256:00",
        "six==1.0 --hash=sha256:zz",
        "six==1.0--hash=sha256:00",
        "six==1.0 \\",
        "six==1.0 \\\n# a comment\n--pre",
        "\u{feff}six==1.0",
        "{\"six\": \"1.0\"}",
        "[tool.poetry]",
    ];

    #[test]
    fn what_means_the_same_becomes_the_same() {
        for text in [
            "six==1.16.0\nRequests[socks,security]==2.32.0\n",
            "# comment\r\nrequests [ security , Socks ] == 2.32.0  # why\r\n\r\nSIX == 1.16.0",
            "six==1.16.0\nrequests[security,\\\nsocks]==2.32.0\nsix==1.16.0",
        ] {
            assert_eq!(
                canonical(text, false).unwrap(),
                "requests[security,socks]==2.32.0\nsix==1.16.0\n",
                "{text}"
            );
        }
        assert_eq!(canonical("A__b.-C==1.0RC1+Local.1", false).unwrap(), "a-b-c==1.0rc1+local.1\n");
        assert_eq!(canonical("\n # nothing \n", false).unwrap(), "");
    }

    #[test]
    fn hashes_and_simple_markers_go_on() {
        let upper = HASH.to_uppercase().replace("SHA256", "sha256");
        let text = format!(
            "six==1.16.0 ; python_version>='3.8'  and(os_name != \"nt\") \\\n    --hash={upper} \\\n --hash {HASH}"
        );
        let expected =
            format!("six==1.16.0 ; python_version >= \"3.8\" and (os_name != \"nt\") --hash={HASH}\n");
        // `and(` is no word.
        assert!(canonical(&text, false).is_err());
        let text = text.replace("and(", "and (");
        assert_eq!(canonical(&text, false), Ok(expected));
    }

    #[test]
    fn ranges_pass_where_the_operator_allows_them() {
        for (text, expected) in [
            ("pandas", "pandas\n"),
            ("pandas >= 2, < 3", "pandas<3,>=2\n"),
            ("pandas~=2.1", "pandas~=2.1\n"),
            ("pandas==2.*", "pandas==2.*\n"),
            ("pandas!=2.0.*,>1", "pandas!=2.0.*,>1\n"),
        ] {
            assert!(canonical(text, false).unwrap_err().why.contains("==version"), "{text}");
            assert_eq!(canonical(text, true).unwrap(), expected);
        }
    }

    /// Case F01.
    #[test]
    fn f01_nothing_but_names_and_versions_passes() {
        for line in BAD {
            let text = format!("colorama==0.4.6\n{line}\nidna==3.10\n");
            // A backslash at the end takes the next line in, which makes it no better.
            let fault = canonical(&text, false).expect_err(line);
            let number = if line.contains("# a comment") { 3 } else { 2 };
            assert_eq!(fault.line, number, "{line}: {fault}");
        }
    }

    #[test]
    fn whatever_passes_is_plain_even_where_ranges_do() {
        for line in ["six==1.0; python_version < '3' --pre", "six>1 -r x", "six -r x", "six @ x", "six,-r"] {
            assert!(canonical(line, true).is_err(), "{line}");
        }
    }

    proptest! {
        /// Whatever comes, what the installer gets is plain, and means itself.
        #[test]
        fn what_passes_is_a_fixed_point_of_few_letters(
            text in "([a-zA-Z0-9._\\-\\[\\], =<>!~;#'\"()\\\\\n]|==|--hash=|python_version| and ){0,60}",
            unpinned: bool,
        ) {
            if let Ok(first) = canonical(&text, unpinned) {
                prop_assert_eq!(canonical(&first, unpinned), Ok(first.clone()));
                for line in first.lines() {
                    prop_assert!(line.starts_with(|c: char| c.is_ascii_alphanumeric()), "{line}");
                    let options = line.split(' ').filter(|word| word.starts_with('-'));
                    prop_assert!(options.clone().all(|word| word.starts_with("--hash=")), "{line}");
                    let odd = line.contains(['@', '/', '\\', '#', '$', ':']) && options.count() == 0;
                    prop_assert!(!odd, "{line}");
                }
            }
        }

        #[test]
        fn a_good_line_passes_in_any_spelling(
            name in "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,20}[a-zA-Z0-9])?", version in "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}", space in "[ \t]{0,3}",
        ) {
            let text = format!("{space}{name}{space}=={space}{version}{space}");
            let expected = format!("{}=={version}\n", normal_name(&name).unwrap());
            prop_assert_eq!(canonical(&text, false), Ok(expected));
        }
    }

    #[test]
    fn there_is_an_end_to_how_much_is_taken() {
        let many: String = (0..=MAX_LINES).map(|number| format!("p{number}==1\n")).collect();
        assert_eq!(canonical(&many, false).unwrap_err().line, MAX_LINES + 1);
        assert!(canonical(&"#".repeat(MAX_BYTES + 1), false).is_err());
        assert!(canonical(&format!("{}==1", "x".repeat(MAX_WORD + 1)), false).is_err());
        assert!(canonical(&format!("x==1; {}", "(".repeat(10_000)), false).is_err());
    }
}
