//! What the design says is never there. Each rule names its reason; a new exception is a change of the design.

use std::path::{Path, PathBuf};

/// Every Rust file under these folders, with its text.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in folders.iter().filter(|folder| root.join(folder).exists()) {
        collect(&root.join(folder), &mut files);
    }
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root).unwrap().to_owned(), text)
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Lines of code: what stands in comments may name anything.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// No line of code outside `home` has one of these words.
#[track_caller]
fn assert_only_in(words: &[&str], home: &[&str], why: &str) {
    for (path, text) in sources(&["src"]) {
        // Tests compare with what the product must not use.
        let test = path.components().any(|part| part.as_os_str() == "tests");
        if test || home.iter().any(|home| path.starts_with(home)) {
            continue;
        }
        for (number, line) in code(&text) {
            let found = words.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{number} has {found:?}: {why}", path.display());
        }
    }
}

#[test]
fn the_web_framework_has_one_home() {
    assert_only_in(&["utoipa"], &["src/http"], "the interface is described where it is served");
    assert_only_in(&["actix"], &["src/http"], "executions know no web framework");
}

#[test]
fn the_engines_client_has_one_home() {
    assert_only_in(&["bollard"], &["src/sandbox/docker"], "only the Docker sandbox talks to the Engine");
}

#[test]
fn the_database_has_one_home() {
    assert_only_in(&["rusqlite"], &["src/store"], "only the store speaks SQL");
}

#[test]
fn containers_are_not_touched_by_handlers() {
    for (path, text) in sources(&["src/http", "src/execution"]) {
        for (number, line) in code(&text) {
            assert!(
                !line.contains("sandbox::docker"),
                "{}:{number}: the service owns the sandbox",
                path.display()
            );
        }
    }
}

#[test]
fn the_environment_is_read_in_one_file() {
    let words = ["env::var", "env::vars", "env::var_os", "option_env!"];
    assert_only_in(&words, &["src/config.rs", "src/config"], "settings come from one place");
}

/// Case H13: whoever sets the clock changes what is shown, not when a program ends or who is next.
#[test]
fn deadlines_and_order_know_no_wall_clock() {
    // Times for people, retention, keys, packages and what other builds left; all but the first are told in hours and days.
    let stamps = [
        "src/cli/keys.rs",
        "src/store/keys.rs",
        "src/execution/entry.rs",
        "src/execution/recording.rs",
        "src/execution/recovery.rs",
        "src/execution/service.rs",
        "src/sandbox/docker/dependencies/volumes.rs",
        "src/sandbox/docker/runner_volume.rs",
    ];
    let clocks = ["SystemTime::now", "Timestamp::now", "Zoned::now", "CLOCK_REALTIME", "gettimeofday"];
    assert_only_in(&clocks, &stamps, "deadlines, waits and order follow the monotonic clock");
    let by_age = ["finished_at_ms <= ", "ORDER BY created_at_ms, id"];
    for (path, text) in sources(&["src/store"]) {
        for (number, line) in
            code(&text).filter(|(_, line)| line.contains("ORDER BY") && line.contains("_ms"))
        {
            let allowed = by_age.iter().any(|words| line.contains(words));
            assert!(allowed, "{}:{number} orders by a time", path.display());
        }
    }
}

#[test]
fn no_archive_is_unpacked_on_the_host() {
    assert_only_in(&[".unpack(", ".unpack_in(", "tar::Archive"], &[], "files go in as frames");
}

#[test]
fn unsafe_code_has_one_home() {
    // The probe's calls must fail, and no safe wrapper makes a call that nobody should make.
    let homes = ["src/runner/sys.rs", "src/runner/probe/sys.rs"];
    assert_only_in(
        &["unsafe {", "unsafe fn", "unsafe impl"],
        &homes,
        "system calls of the runner, each explained",
    );
    assert_only_in(&["allow(unsafe_code"], &homes, "the lint is lifted there alone");
}

#[test]
fn layers_know_only_those_below() {
    for (layer, above) in [
        (
            "src/archive",
            &["crate::http", "crate::execution", "crate::sandbox", "crate::cli", "crate::server"][..],
        ),
        (
            "src/runtime",
            &["crate::http", "crate::execution", "crate::sandbox", "crate::cli", "crate::server"],
        ),
        ("src/store", &["crate::http", "crate::execution", "crate::cli", "crate::server"]),
        ("src/sandbox", &["crate::http", "crate::cli", "crate::server", "crate::execution::service"]),
        ("src/execution", &["crate::http", "crate::cli", "crate::server"]),
        ("src/http", &["crate::cli"]),
    ] {
        for (path, text) in sources(&[layer]) {
            for (number, line) in code(&text) {
                let found = above.iter().find(|word| line.contains(**word));
                assert!(found.is_none(), "{}:{number} knows {found:?}, which is above it", path.display());
            }
        }
    }
}

#[test]
fn the_house_has_its_rooms_and_no_others() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names: Vec<_> = std::fs::read_dir(src)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let rooms = [
        "archive",
        "build.rs",
        "cli",
        "config",
        "config.rs",
        "execution",
        "failpoint.rs",
        "http",
        "lib.rs",
        "limits.rs",
        "main.rs",
        "runner",
        "runtime",
        "sandbox",
        "server.rs",
        "store",
        "telemetry.rs",
    ];
    assert_eq!(names, rooms, "a new room is a change of the design: say why in ARCHITECTURE.md");
}

#[test]
fn files_hold_one_idea_each() {
    for (path, text) in sources(&["src", "tests"]) {
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", path.display());
    }
}

#[test]
fn names_say_what_things_are() {
    for (path, text) in sources(&["src"]) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        for vague in ["manager", "helper", "util", "utils", "common", "misc"] {
            assert_ne!(name, vague, "{}", path.display());
            for (number, line) in code(&text) {
                let named = line.contains(&format!("mod {vague};")) || line.contains(&format!("{vague}.rs"));
                assert!(!named, "{}:{number} is named {vague}", path.display());
            }
        }
        for (number, line) in text.lines().enumerate() {
            let marker = ["TO", "DO"].concat();
            assert!(
                !line.contains(&marker),
                "{}:{}: finish it or write an issue",
                path.display(),
                number + 1
            );
        }
    }
}
