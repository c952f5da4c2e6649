//! Versions of the Engine and of runc with published holes. Only what concerns us is here; SECURITY.md has the same
//! table with a reason for each. Distributions mend older versions under their own numbers, which can't be seen here, so
//! that a match is a warning and never stops a start.

use super::facts::EngineFacts;

/// A published hole, or several that were mended together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Advisory {
    /// Their names.
    names: &'static str,
    /// What they are, in a few words.
    what: &'static str,
    /// The first version of each line of releases without them, lowest first. Lines below the first never got the fix.
    mended: &'static [&'static str],
}

const RUNC: [Advisory; 2] = [
    Advisory {
        names: "CVE-2024-21626",
        what: "a way out through the working folder and a leaked descriptor",
        mended: &["1.1.12"],
    },
    Advisory {
        names: "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        what: "ways out through masked paths, the console and /proc",
        mended: &["1.2.8", "1.3.3", "1.4.0-rc.3"],
    },
];

const ENGINE: [Advisory; 3] = [
    Advisory {
        names: "CVE-2026-34040",
        what: "large requests pass authorization plugins unseen",
        mended: &["29.3.1"],
    },
    Advisory {
        names: "CVE-2026-31431",
        what: "the Engine's own filter lets programs of image builds reach a hole of the kernel",
        mended: &["29.4.3"],
    },
    Advisory {
        names: "CVE-2026-41567, CVE-2026-41568, CVE-2026-42306",
        what: "ways out for a container that files are copied into",
        mended: &["29.5.1"],
    },
];

/// Three numbers and a release candidate's; a release comes after all of its candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    line: (u64, u64),
    patch: u64,
    candidate: u64,
}

impl Version {
    /// The first version in a text like `runc version 1.1.5+ds1` or `28.2.2-0ubuntu1`. What a distribution appends says
    /// nothing of the order: only a candidate's mark (`-rc.3`, `~rc3`) does.
    fn find(text: &str) -> Option<Self> {
        let (major, rest) = number(&text[text.find(|c: char| c.is_ascii_digit())?..])?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let (patch, rest) = rest.strip_prefix('.').and_then(number).unwrap_or((0, rest));
        let candidate = rest.strip_prefix(['-', '~']).and_then(|rest| rest.strip_prefix("rc"));
        let candidate = candidate.and_then(|rest| number(rest.trim_start_matches('.')));
        Some(Self {
            line: (major, minor),
            patch,
            candidate: candidate.map_or(u64::MAX, |(number, _)| number),
        })
    }

    fn is_mended(self, advisory: &Advisory) -> bool {
        let mended = advisory.mended.iter().filter_map(|text| Self::find(text));
        mended.clone().any(|first| first.line == self.line && first <= self)
            || mended.max().is_some_and(|last| last.line < self.line)
    }
}

/// The number at the start of a text, and the rest.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// What is known against this version: a sentence without its subject. One that can't be read is no good sign.
fn against(advisories: &[Advisory], text: &str) -> Option<String> {
    let Some(version) = Version::find(text) else {
        return Some("can't be read: check by hand that it is up to date".to_owned());
    };
    let open: Vec<_> = advisories.iter().filter(|advisory| !version.is_mended(advisory)).collect();
    let last = open.last()?.mended.join(" or ");
    let holes: Vec<_> =
        open.iter().map(|advisory| format!("{} ({})", advisory.names, advisory.what)).collect();
    Some(format!(
        "has known holes unless the distribution mended them under its own number: {}; update to {last} or later (see \
         SECURITY.md)",
        holes.join("; ")
    ))
}

impl EngineFacts {
    /// What is known against the Engine's version; `None` when nothing is.
    #[must_use]
    pub fn against_engine(&self) -> Option<String> {
        against(&ENGINE, &self.version)
    }

    /// The same of its default OCI runtime.
    #[must_use]
    pub fn against_oci_runtime(&self) -> Option<String> {
        against(&RUNC, &self.oci_runtime_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_what_distributions_append() {
        let version = |text| Version::find(text).map(|it| (it.line, it.patch, it.candidate));
        let release = |major, minor, patch| Some(((major, minor), patch, u64::MAX));
        for (text, expected) in [
            ("1.1.5+ds1", release(1, 1, 5)),
            ("1.1.15+ds1-2+b4", release(1, 1, 15)),
            ("runc version 1.3.3", release(1, 3, 3)),
            ("20.10.24+dfsg1-1+deb12u1", release(20, 10, 24)),
            ("26.1.5+dfsg1", release(26, 1, 5)),
            ("28.2.2-0ubuntu1~24.04.1", release(28, 2, 2)),
            ("v29.5.1", release(29, 5, 1)),
            ("19.03.12-ce", release(19, 3, 12)),
            ("1.4", release(1, 4, 0)),
            ("1.4.0-rc.3", Some(((1, 4), 0, 3))),
            ("1.3.0~rc1+ds1", Some(((1, 3), 0, 1))),
            ("1.0.0-rc93", Some(((1, 0), 0, 93))),
            ("", None),
            ("unknown", None),
            ("7", None),
            ("99999999999999999999.1.1", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    /// What is said against each version, by the year and number that stand first.
    #[track_caller]
    fn assert_said(advisories: &[Advisory], text: &str, expected: &[&str]) {
        let said = against(advisories, text).unwrap_or_default();
        let named: Vec<_> = advisories
            .iter()
            .map(|advisory| &advisory.names[..14])
            .filter(|name| said.contains(name))
            .collect();
        assert_eq!(named, expected, "{text}: {said}");
        assert_eq!(said.is_empty(), expected.is_empty(), "{text}: {said}");
    }

    #[test]
    fn runc_is_warned_of_up_to_the_fix_in_each_line() {
        let (first, later) = ("CVE-2024-21626", "CVE-2025-31133");
        for (text, expected) in [
            ("1.0.0-rc93", &[first, later][..]),
            ("1.1.5+ds1", &[first, later]),
            ("1.1.11", &[first, later]),
            ("1.1.12", &[later]),
            ("1.1.15+ds1", &[later]),
            ("1.2.0", &[later]),
            ("1.2.7", &[later]),
            ("1.2.8", &[]),
            ("1.2.9", &[]),
            ("1.3.0", &[later]),
            ("1.3.2", &[later]),
            ("1.3.3+ds1", &[]),
            ("1.4.0-rc.2", &[later]),
            ("1.4.0-rc.3", &[]),
            ("1.4.0", &[]),
            ("1.5.2", &[]),
            ("2.0.0", &[]),
        ] {
            assert_said(&RUNC, text, expected);
        }
    }

    #[test]
    fn the_engine_is_warned_of_up_to_the_last_fix() {
        let [plugins, filter, copy] = ["CVE-2026-34040", "CVE-2026-31431", "CVE-2026-41567"];
        for (text, expected) in [
            ("20.10.24+dfsg1", &[plugins, filter, copy][..]),
            ("26.1.5+dfsg1", &[plugins, filter, copy]),
            ("28.5.2", &[plugins, filter, copy]),
            ("29.3.0", &[plugins, filter, copy]),
            ("29.3.1", &[filter, copy]),
            ("29.4.2", &[filter, copy]),
            ("29.4.3", &[copy]),
            ("29.5.0", &[copy]),
            ("29.5.0-rc.1", &[copy]),
            ("29.5.1", &[]),
            ("29.9.0", &[]),
            ("30.0.0", &[]),
        ] {
            assert_said(&ENGINE, text, expected);
        }
    }

    #[test]
    fn a_version_that_can_not_be_read_is_no_good_sign() {
        for text in ["", "unknown-version"] {
            assert!(against(&RUNC, text).unwrap().contains("by hand"), "{text}");
        }
    }

    #[test]
    fn the_fixes_of_the_table_are_versions() {
        for advisory in RUNC.iter().chain(&ENGINE) {
            let mended: Vec<_> = advisory.mended.iter().map(|text| Version::find(text).unwrap()).collect();
            assert!(mended.is_sorted() && !mended.is_empty(), "{advisory:?}");
            for name in advisory.names.split(", ") {
                let number = name.strip_prefix("CVE-20").unwrap();
                assert!(number.len() == 8 && number.as_bytes()[2] == b'-', "{name}");
            }
        }
    }

    #[test]
    fn the_document_has_every_hole_of_the_table() {
        let document = include_str!("../../../SECURITY.md");
        for advisory in RUNC.iter().chain(&ENGINE) {
            let names = advisory.names.split(", ");
            for text in names.chain(advisory.mended.iter().copied()) {
                assert!(document.contains(text), "SECURITY.md lacks {text}");
            }
        }
    }
}
