//! The cases of `tests/hostile.toml`, and the page that is made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// By id, which is also their order.
pub(crate) type Registry = BTreeMap<String, Case>;

/// One case. The file's head says what its fields mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) class: Class,
    pub(crate) what: String,
    #[serde(default)]
    pub(crate) tests: Vec<String>,
    #[serde(default)]
    pub(crate) rows: Vec<String>,
    #[serde(default)]
    pub(crate) full: Vec<String>,
    pub(crate) part: Option<String>,
    pub(crate) later: Option<u8>,
    pub(crate) absent: Option<String>,
}

/// What an attack is after, in gVisor's words.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum Class {
    Escape,
    HostLeak,
    Exfil,
    Lateral,
    HostDoS,
    PeerDoS,
    ServerDoS,
    Integrity,
}

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the cases are, ...
pub(crate) const FILE: &str = "tests/hostile.toml";
/// ... and the page.
pub(crate) const PAGE: &str = "docs/hostile.md";

/// The registry as it is in the repository, or what is wrong with it.
pub(crate) fn read() -> Result<Registry, String> {
    let text = std::fs::read_to_string(repository(FILE)).map_err(|error| format!("{FILE}: {error}"))?;
    toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))
}

impl Case {
    /// How it stands when its tests pass.
    pub(crate) fn standing(&self) -> String {
        match (&self.absent, self.later) {
            (Some(_), _) => "absent".to_owned(),
            (None, Some(issue)) => format!("later: issue {issue}"),
            (None, None) => "held".to_owned(),
        }
    }

    /// What a reader must know beside it.
    fn notes(&self) -> String {
        let mut notes = Vec::new();
        notes.extend(self.absent.clone());
        notes.extend(self.part.as_ref().map(|part| format!("not there yet: {part}")));
        if !self.rows.is_empty() {
            notes.push(format!("{} attempts named", self.rows.len()));
        }
        notes.extend(self.full.iter().map(|command| format!("more by `{command}`")));
        notes.join("; ")
    }
}

/// The committed page: all that a run has found but the times.
pub(crate) fn page(registry: &Registry) -> String {
    let mut page = String::from(
        "# The hostile cases\n\n\
         Written by `make hostile` from `tests/hostile.toml` when every test that is named here had passed. `lib` are the \
         tests beside the code, `it` those in `tests/it` (the real routes over a scripted sandbox), `docker` those in \
         `tests/docker` (the real binary over a real Engine); `docker::behaviours::NAME` runs the project \
         `tests/fixtures/NAME` and looks for anything left. The classes are gVisor's.\n\n\
         | Case | Class | What | Outcome | Tests | |\n|---|---|---|---|---|---|\n",
    );
    for (id, case) in registry {
        let tests: Vec<_> = case.tests.iter().map(|test| format!("`{test}`")).collect();
        let (standing, notes) = (case.standing(), case.notes());
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "| {id} | {:?} | {} | {standing} | {} | {notes} |",
            case.class,
            case.what,
            tests.join("<br>")
        );
    }
    page
}
