//! Variables of the environment: settings, those of scripts and tests, and those that nobody knows.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use execbox::config::NOT_SETTINGS;

/// Every `EXECBOX_...` in the files below this folder or in this file.
fn named_in(path: &Path, found: &mut BTreeSet<String>) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| named_in(&entry.unwrap().path(), found));
        return;
    }
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    for (at, prefix) in text.match_indices("EXECBOX_") {
        let rest = &text[at + prefix.len()..];
        let end =
            rest.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_').unwrap_or(rest.len());
        let name = format!("{prefix}{}", &rest[..end]);
        // A pattern such as `EXECBOX_DOCKERD_*` names none.
        if !name.ends_with('_') {
            found.insert(name);
        }
    }
}

/// `execbox serve --help` names each setting's variable.
fn settings() -> BTreeSet<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_execbox")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(str::to_owned).collect()
}

#[test]
fn each_variable_that_the_repository_uses_is_a_setting_or_listed_as_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = BTreeSet::new();
    for place in
        ["deploy", "benches", "tests/docker", "tests/engines", "tests/schemathesis", "images", "Makefile"]
    {
        named_in(&root.join(place), &mut used);
    }
    named_in(&root.join("src/archive/tests"), &mut used);
    let settings = settings();
    assert!(settings.len() > 60 && settings.contains("EXECBOX_CONFIG"), "{settings:?}");
    let listed = BTreeSet::from(NOT_SETTINGS.map(str::to_owned));
    let unlisted: Vec<_> =
        used.iter().filter(|name| !settings.contains(*name) && !listed.contains(*name)).collect();
    assert!(unlisted.is_empty(), "add them to NOT_SETTINGS in src/config/environment.rs: {unlisted:?}");
    let unused: Vec<_> = listed.iter().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "nobody uses these of NOT_SETTINGS: {unused:?}");
    assert!(listed.is_disjoint(&settings), "a setting is one");
}

#[test]
fn a_variable_that_nobody_knows_is_warned_of_by_every_command() {
    for words in ["openapi", "completions bash", "keys list --data-dir /nowhere"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_execbox"));
        command
            .args(words.split(' '))
            .env("EXECBOX_LISTN", "x")
            .env("EXECBOX_DOCKERD_ARGS", "")
            .env("EXECBOX", "x");
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        let warned: Vec<_> = said.lines().filter(|line| line.contains("is unknown")).collect();
        let expected = "execbox: warning: EXECBOX_LISTN is unknown; did you mean EXECBOX_LISTEN?";
        assert_eq!(warned, [expected], "{words}: {said}");
    }
}
