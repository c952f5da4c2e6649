//! The registry of hostile cases is whole: no case is forgotten, each names tests that are there, and the page shows it.

use std::path::PathBuf;

use crate::registry::{self, Case, repository};

/// Every case that must be in it, by group.
const CASES: [(char, &[u8]); 8] = [
    ('A', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 15, 17, 18, 19, 21, 22, 23, 24, 25]),
    ('B', &[1, 2, 3, 4, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 19, 20, 21, 31, 32]),
    ('C', &[1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25]),
    ('D', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 20, 21, 22, 23, 25, 26, 27]),
    ('E', &[1, 3, 4, 6, 7, 8, 10]),
    ('F', &[1, 2, 3, 4, 5, 6, 7, 9, 10]),
    ('G', &[1, 2, 3, 4, 6, 31]),
    ('H', &[1, 2, 3, 4, 5, 7, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]),
];
/// What the issues to come build.
const ISSUES: [u8; 2] = [4, 5];

#[test]
fn every_case_is_there_in_order() {
    let expected: Vec<_> = CASES
        .iter()
        .flat_map(|(group, numbers)| numbers.iter().map(move |number| format!("{group}{number:02}")))
        .collect();
    let text = std::fs::read_to_string(repository(registry::FILE)).unwrap();
    let written: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.strip_suffix(']').map(str::to_owned))
        .collect();
    assert_eq!(written, expected);
    assert_eq!(registry::read().unwrap().into_keys().collect::<Vec<_>>(), expected);
}

/// Either tests hold it, or nothing of it is there yet.
fn assert_stands(id: &str, case: &Case) {
    assert!(!case.what.is_empty() && !case.what.contains('|'), "{id}");
    match case.later {
        Some(issue) => {
            assert!(ISSUES.contains(&issue), "{id}: issue {issue} is none to come");
            let none = case.tests.is_empty() && case.rows.is_empty() && case.full.is_empty();
            assert!(none && case.part.is_none() && case.absent.is_none(), "{id}: it is there after all");
        }
        None => assert!(!case.tests.is_empty(), "{id}: nothing holds it"),
    }
    let held_by_probe = case.tests.iter().any(|test| test == "docker::probe::every_case_has_its_rows");
    assert_eq!(held_by_probe, !case.rows.is_empty(), "{id}: rows, and the test that looks for them");
}

#[test]
fn every_case_names_tests_that_are_there() {
    for (id, case) in registry::read().unwrap() {
        assert_stands(&id, &case);
        for test in &case.tests {
            assert!(is_a_test(test), "{id}: there is no test {test}");
        }
    }
}

/// Whether the sources have a test of this name where its path says.
fn is_a_test(name: &str) -> bool {
    let mut path: Vec<_> = name.split("::").collect();
    let (binary, function) = (path.remove(0), path.pop().unwrap());
    if (binary, &path[..]) == ("docker", &["behaviours"]) {
        // One generic test runs them all, and holds that each folder has its name.
        return repository(&format!("tests/fixtures/{function}.toml")).exists();
    }
    files(binary, &path)
        .iter()
        .any(|file| std::fs::read_to_string(file).is_ok_and(|text| has_test(&text, function)))
}

/// Where a module's tests may be.
fn files(binary: &str, path: &[&str]) -> Vec<PathBuf> {
    let root = if binary == "lib" { repository("src") } else { repository("tests").join(binary) };
    // `mod tests { ... }` at the end of a file.
    let inline = path.strip_suffix(&["tests"]).unwrap_or(path);
    let places = [path, inline].map(|path| root.join(path.join("/")));
    places.iter().flat_map(|place| [place.with_extension("rs"), place.join("mod.rs")]).collect()
}

fn has_test(text: &str, function: &str) -> bool {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line == "}" {
            is_test = false;
        } else if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && line.contains(&format!("fn {function}(")) {
            return true;
        }
    }
    false
}

#[test]
fn the_page_is_the_registrys_own() {
    let committed = std::fs::read_to_string(repository(registry::PAGE)).unwrap_or_default();
    let page = registry::page(&registry::read().unwrap());
    assert!(committed == page, "{} is not what the registry says: run `make hostile`", registry::PAGE);
}
