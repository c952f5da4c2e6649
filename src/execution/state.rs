//! What is known of an execution, as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::execution::content::Content;
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::json::Json;
use crate::runtime::Diagnosis;
use crate::sandbox::{Artifact, CompileReport, InstallReport, Outcome, Timings, Truncated, Usage};

/// Where an execution is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted, waiting for a worker.
    Pending,
    /// A worker has it.
    Running,
    /// The program ended by itself, with whatever exit code.
    Completed,
    /// A limit ended it, the compiler refused it, or we failed.
    Failed,
    /// Somebody killed it.
    Killed,
}

impl Status {
    /// No further change will come.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Killed)
    }

    /// Its word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

/// A snapshot of one execution, cheap to clone. `output` and `finished` grow until the status is terminal.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Its name.
    pub id: ExecutionId,
    /// Its owner.
    pub tenant: Tenant,
    /// Where it is.
    pub status: Status,
    /// The runtime's name.
    pub language: Arc<str>,
    /// The runtime's version.
    pub version: Arc<str>,
    /// The caller's own words.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Which try this is; 1 for the first.
    pub attempt: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When a worker took it.
    pub started_at: Option<Timestamp>,
    /// When it became terminal.
    pub finished_at: Option<Timestamp>,
    /// What it has written so far.
    pub output: Output<Content>,
    /// Set exactly once, with the terminal status.
    pub finished: Option<Arc<Finished>>,
}

/// What an execution wrote, up to the caps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output<T = Bytes> {
    /// The program's standard output.
    pub stdout: T,
    /// The program's standard error.
    pub stderr: T,
    /// The compiler's standard output.
    pub compile_stdout: T,
    /// The compiler's standard error.
    pub compile_stderr: T,
}

impl<T> Output<T> {
    /// In the order in which they are kept.
    pub fn streams(&self) -> [&T; 4] {
        [&self.stdout, &self.stderr, &self.compile_stdout, &self.compile_stderr]
    }
}

impl Output {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams().map(Bytes::len).iter().sum()
    }

    /// Nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Output> for Output<Content> {
    fn from(output: Output) -> Self {
        let Output { stdout, stderr, compile_stdout, compile_stderr } = output;
        Self {
            stdout: stdout.into(),
            stderr: stderr.into(),
            compile_stdout: compile_stdout.into(),
            compile_stderr: compile_stderr.into(),
        }
    }
}

/// How an execution ended. Recorded as it is: a new field needs a default for records that lack it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// What the program did and why it ended.
    pub outcome: Outcome,
    /// The install phase, where it waited for one.
    #[serde(default)]
    pub install: Option<InstallReport>,
    /// The compile phase, where there was one.
    pub compile: Option<CompileReport>,
    /// Files that came back.
    pub artifacts: Vec<Artifact>,
    /// What was cut.
    pub truncated: Truncated,
    /// What the program used.
    pub usage: Usage,
    /// From acceptance to the start of work, in microseconds.
    pub queue_us: u64,
    /// From acceptance to the end, in microseconds.
    pub duration_us: u64,
    /// Where the sandbox spent its time.
    pub timings: Timings,
    /// `repr` of the last expression, when it was asked for.
    pub result: Option<String>,
    /// What a called function returned.
    #[serde(default)]
    pub return_value: Option<Json>,
    /// What the program saved, by key.
    #[serde(default)]
    pub results: BTreeMap<String, Json>,
    /// What the compiler or the program said went wrong.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// Sentences for the caller.
    pub notices: Vec<String>,
}

impl Finished {
    /// Length of what the program handed back.
    #[must_use]
    pub fn handed_back(&self) -> usize {
        let results = self.results.iter().map(|(key, value)| key.len() + value.get().len());
        let value = self.return_value.as_ref().map_or(0, |value| value.get().len());
        results.sum::<usize>() + value + self.result.as_ref().map_or(0, String::len)
    }
}
