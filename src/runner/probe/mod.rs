//! The probe: tries, as an ordinary program under the runner, what the container's profile must refuse. The server
//! runs it before it serves, in a container like all others, and does not serve when anything worked.
//!
//! Each attempt is harmless should it succeed: what changes a process happens in a child of its own, calls that reach
//! far get arguments that do nothing, and the container goes afterwards.

mod calls;
mod files;
mod limits;
mod network;
mod privileges;
mod sys;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use sys::Answer;

/// First argument by which the binary knows that it is the probe. The second is [`Promises`] as JSON.
pub const ARGUMENT: &str = "__probe";

/// The numbers that the profile promises, so that the probe can hold them against what it finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promises {
    /// User and group.
    pub uid: u32,
    /// Host name.
    pub hostname: String,
    /// Memory, swap included, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processors, in thousandths of one.
    pub cpu_millis: u64,
    /// Weight against others, in the Engine's unit, where 1024 is the default.
    pub cpu_shares: u64,
    /// Everything in the container starts with this `oom_score_adj`, or a higher one.
    pub least_oom_score: i64,
    /// Hard limits by name, as `ulimit` has them.
    pub ulimits: Vec<(String, u64)>,
    /// The places that can be written.
    pub places: Vec<Place>,
}

/// A place that can be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub path: String,
    /// Its size; `None` where the runner watches its use.
    pub bytes: Option<u64>,
    /// How many files it can hold; `None` where only memory limits that, or the runner does.
    pub inodes: Option<u64>,
    /// Files in it can be executed.
    pub exec: bool,
    /// It was mounted for this container with options of our own, not as a volume.
    pub own_mount: bool,
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it must be.
    Refused,
    /// It did what it must not, or could not be tried.
    Worked,
    /// This kernel or OCI runtime does not tell. The server does not stop over it.
    Unknown,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What kind of attack it belongs to.
    pub class: String,
    /// What was tried.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Error or value that says so.
    pub detail: String,
}

impl Row {
    fn new(class: &str, name: impl Into<String>, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { class: class.to_owned(), name: name.into(), outcome, detail: detail.into() }
    }

    /// A fact that must hold.
    fn holds(class: &str, name: impl Into<String>, holds: bool, detail: impl Into<String>) -> Self {
        Self::new(class, name, if holds { Outcome::Refused } else { Outcome::Worked }, detail)
    }

    /// An attempt that must end with one of these errors. Any other error means that it came too far.
    fn fails(
        class: &str,
        name: impl Into<String>,
        result: Result<(), impl Into<Errno>>,
        with: &[Errno],
    ) -> Self {
        match result.map_err(Into::into) {
            Ok(()) => Self::new(class, name, Outcome::Worked, "no error"),
            Err(error) => Self::holds(class, name, with.contains(&error), format!("{error:?}")),
        }
    }

    /// [`Self::fails`] for what was done in a child. A child that the filter kills was refused, too.
    fn refused(class: &str, name: impl Into<String>, answer: Answer, with: &[Errno]) -> Self {
        match answer {
            Answer::Done => Self::new(class, name, Outcome::Worked, "no error"),
            Answer::Failed(error) => Self::fails(class, name, Err(error), with),
            Answer::Killed(signal) => {
                Self::holds(class, name, sys::REFUSALS.contains(&signal), format!("killed by {signal}"))
            }
            Answer::NotTried(error) => {
                Self::new(class, name, Outcome::Worked, format!("could not be tried: {error:?}"))
            }
        }
    }
}

/// Tries everything and prints the rows as JSON.
#[must_use]
pub fn main(promises: Option<&OsStr>) -> ExitCode {
    // Nobody may read our binary, so the kernel takes us for one with secrets, and gives our files in /proc to root. A
    // program's own are its own.
    if nix::sys::prctl::set_dumpable(true).is_err() {
        return ExitCode::FAILURE;
    }
    match promises.and_then(OsStr::to_str).map(serde_json::from_str) {
        Some(Ok(promises)) => print(&rows(&promises)),
        _ => ExitCode::FAILURE,
    }
}

fn rows(promises: &Promises) -> Vec<Row> {
    let mut rows = calls::rows();
    rows.extend(network::rows());
    rows.extend(files::rows(promises));
    rows.extend(privileges::rows(promises));
    rows.extend(limits::rows(promises));
    rows
}

fn print(rows: &[Row]) -> ExitCode {
    let printed = serde_json::to_vec(rows).map(|document| std::io::stdout().write_all(&document));
    if matches!(printed, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
