//! Every folder under `images/` comes with what `tests/docker` runs of it.

use std::collections::BTreeSet;

use execbox::archive::{Contents, Entry, EntryKind};
use execbox::runtime::Catalogue;

use crate::projects::{Folder, described, repository, runtime_folders};

/// The files of a project.
fn entries(project: &str) -> Vec<Entry> {
    let (root, mut folders, mut entries) = (repository(project), vec![repository(project)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{project}: {error}")) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                entries.push(Entry { path, kind: EntryKind::File { size: 1, executable: false } });
            }
        }
    }
    entries
}

#[test]
fn every_runtime_has_a_hello_a_project_of_several_files_and_two_faulty_programs() {
    for Folder { folder, language, .. } in runtime_folders() {
        let projects = described(&format!("examples/{language}"));
        assert!(
            projects.contains(&"hello".to_owned()),
            "{folder}: examples/{language}/hello.toml is missing"
        );
        let has_several = |project: &String| entries(&format!("examples/{language}/{project}")).len() > 1;
        assert!(
            projects.iter().any(has_several),
            "{folder}: no project of several files in examples/{language}"
        );
        let leaves_files = |project: &String| {
            let description = repository(&format!("examples/{language}/{project}.toml"));
            std::fs::read_to_string(description).unwrap().contains("\nartifacts = [\"")
        };
        assert!(
            projects.iter().any(leaves_files),
            "{folder}: no project in examples/{language} leaves a file"
        );
        let faulty = format!("tests/fixtures/runtimes/{language}");
        let faults = described(&faulty);
        for fault in ["compile_error", "runtime_error"] {
            assert!(faults.iter().any(|found| found == fault), "{folder}: {faulty} has no {fault}");
        }
        for fault in described(&faulty) {
            assert!(!entries(&format!("{faulty}/{fault}")).is_empty(), "{folder}: {faulty}/{fault} is empty");
        }
    }
}

#[test]
fn no_example_or_faulty_program_is_without_a_runtime() {
    let languages: BTreeSet<String> = runtime_folders().into_iter().map(|folder| folder.language).collect();
    for place in ["examples", "tests/fixtures/runtimes"] {
        let folders = std::fs::read_dir(repository(place)).unwrap();
        let folders: BTreeSet<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(folders, languages, "{place}");
    }
}

/// Nobody has to say what a project is written in, unless it is for a variant such as python-data.
#[test]
fn the_language_of_every_example_is_found() {
    let catalogue = Catalogue::load(None).unwrap();
    for Folder { language, name, version, .. } in runtime_folders() {
        let runtime = catalogue.resolve(&format!("{name}@{version}")).unwrap();
        let base = runtime.base.as_ref().filter(|base| base.extensions == runtime.extensions);
        let found = base.map_or(&name, |base| &base.name);
        for project in described(&format!("examples/{language}")) {
            let project = format!("examples/{language}/{project}");
            let (entries, contents) = (entries(&project), Contents::new());
            let detected = catalogue.detect(&catalogue.view(&entries, &contents));
            let detected = detected.unwrap_or_else(|error| panic!("{project}: {error}"));
            assert_eq!(&detected.name, found, "{project}");
        }
    }
}

/// `execbox images list --markdown` prints its rows.
#[test]
fn the_readme_has_every_runtime() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    for Folder { name, version, .. } in runtime_folders() {
        let row = format!("| `{name}` | {version} |");
        assert!(readme.contains(&row), "the table of languages lacks {row}");
    }
}
