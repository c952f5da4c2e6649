//! Where an execution runs: the one seam between executions and containers.
//!
//! A [`Sandbox`] either says what the program did ([`Report`], data) or that we failed ([`SandboxError`], retried by
//! the execution service with a fresh sandbox, and never shown as an outcome).

pub mod docker;
mod outcome;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use outcome::signal_name;
pub use outcome::{NO_RUN, Outcome, Reason};

use crate::execution::spec::ExecutionSpec;
use crate::runner::message::Phase;

/// End of the error of a project that did not compile, as long as nothing is known of what the compiler wrote.
pub const SEE_COMPILER: &str = "see compile.stderr";

/// A boxed future, so that the trait can be used as `dyn Sandbox`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A worker's place. The worker takes its next execution only after every clone of the slot has been dropped, so a sandbox
/// keeps a clone for as long as something of the attempt may still use processors or memory.
pub type Slot = Arc<DropGuard>;

/// One attempt at running a spec.
#[derive(Debug, Clone)]
pub struct Job {
    /// For the log.
    pub id: crate::execution::id::ExecutionId,
    /// 1 for the first.
    pub attempt: u32,
    /// What to run.
    pub spec: Arc<ExecutionSpec>,
    /// A folder of this attempt's own for artifacts. The sandbox makes it, with its parents, for the first.
    pub artifact_dir: PathBuf,
    /// The place of the worker that makes the attempt.
    pub slot: Slot,
}

/// What a sandbox tells while a program runs. Calls return at once; the receiver holds the caps.
pub trait Events: Send + Sync {
    /// Waiting for something that is not the program: an image build, a pull. Shown to people.
    fn progress(&self, message: &str);
    /// The program of this phase has started; its clock runs.
    fn phase(&self, phase: Phase);
    /// Bytes of the current phase's standard output.
    fn stdout(&self, bytes: Bytes);
    /// Bytes of the current phase's standard error.
    fn stderr(&self, bytes: Bytes);
}

/// What happened in a sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What the program did, and why it ended.
    pub outcome: Outcome,
    /// The install phase, where this execution waited for one.
    pub install: Option<InstallReport>,
    /// The compile phase, where there was one.
    pub compile: Option<CompileReport>,
    /// Files that came back, in the order they came.
    pub artifacts: Vec<Artifact>,
    /// What was cut.
    pub truncated: Truncated,
    /// What the program used.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// What the program wrote to the result channel, unparsed.
    pub result: Vec<u8>,
    /// Sentences for the caller.
    pub notices: Vec<String>,
}

/// How packages were installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallReport {
    /// The end of what the installer wrote.
    pub log: String,
    /// Its exit code; 128 + n after signal n; none where it was not reached.
    pub exit_code: Option<i32>,
    /// Wall time of its processes.
    pub duration_us: u64,
}

/// How the compiler ended. Its output went through [`Events`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileReport {
    /// Its exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// Wall time.
    pub duration_us: u64,
}

/// A file that the program left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the workspace; checked by the archive's path policy.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Hexadecimal.
    pub sha256: String,
    /// Where its content lies: under [`Job::artifact_dir`], and in the store once the execution has finished. Never
    /// recorded: it is this node's.
    #[serde(skip)]
    pub file: PathBuf,
}

/// What was cut at a cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Some artifacts are missing.
    pub artifacts: bool,
    /// Some of what the program handed back is missing.
    #[serde(default)]
    pub results: bool,
}

/// What the run phase used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall time in microseconds.
    pub wall_us: u64,
    /// Processor time of all its processes, in microseconds.
    pub cpu_us: u64,
    /// Highest memory of the program's own, or of its compiler's, in bytes, where the kernel tells: anonymous and shared
    /// memory and page tables, without files. At most `memory_mb` unless the program ended as out of memory.
    pub memory_peak_bytes: Option<u64>,
    /// Processes, the compiler's included, that the kernel killed because the container's memory was used up.
    #[serde(default)]
    pub oom_kills: u64,
}

/// Where a sandbox spent its time, in microseconds. The phases do not overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// It waited for packages to be installed.
    #[serde(default)]
    pub install_us: u64,
    /// Image ready, container made and started, files in.
    pub sandbox_us: u64,
    /// The compiler.
    pub compile_us: u64,
    /// The program.
    pub run_us: u64,
    /// What was left of it killed, artifacts out, and the runner's last word.
    pub collect_us: u64,
}

/// We failed; the program did nothing wrong.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The Engine is there, and refuses or fails. Worth another try.
    #[error("the container engine failed: {0}")]
    Engine(String),
    /// The Engine is away, so this attempt never got as far as a program. Worth another try once it is back
    /// ([`Sandbox::until_ready`]), and no attempt lost.
    #[error("the container engine is away: {0}")]
    Away(String),
    /// The runtime's image could not be made, or may not be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The container or the runner in it went away, or spoke nonsense.
    #[error("the sandbox was lost: {0}")]
    Lost(String),
    /// A local file could not be read or written.
    #[error("local storage failed: {0}")]
    Storage(#[from] std::io::Error),
}

/// Why there is no image for a runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .details.as_ref().map(|details| format!(": {details}")).unwrap_or_default())]
pub struct ImageError {
    /// For whoever asked for the execution: nothing of the host, and what to do.
    pub message: String,
    /// For the operator: what the Engine and the build said.
    pub details: Option<String>,
}

impl SandboxError {
    /// Whether a fresh attempt may help. An image that can't be built stays so.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Image(_))
    }
}

/// The images that an execution needs.
#[derive(Debug, Clone, Copy)]
pub struct WantedImages<'a> {
    /// Its language.
    pub runtime: &'a Arc<crate::runtime::Runtime>,
    /// Name of an image of the caller's own, used instead of the language's.
    pub own: Option<&'a str>,
    /// Whether packages are to be installed first, by another image.
    pub installer: bool,
}

/// Runs specs, one attempt at a time and several at once.
pub trait Sandbox: Send + Sync + 'static {
    /// Runs one attempt to its end. When `cancel` fires the program is killed and the report says
    /// [`Reason::Killed`]. Nothing of the attempt is left when this returns, or it is being removed; what may still run
    /// meanwhile keeps [`Job::slot`].
    ///
    /// # Errors
    /// What we failed to do, never what the program did.
    fn run<'a>(
        &'a self,
        job: Job,
        events: &'a dyn Events,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Report, SandboxError>>;

    /// Whether an execution could start now. The error is a sentence for the operator.
    ///
    /// # Errors
    /// The Engine is away.
    fn ready(&self) -> BoxFuture<'_, Result<(), SandboxError>>;

    /// Waits while an execution is known not to be able to start. Asks nothing: ends at once where nothing is known.
    fn until_ready(&self) -> BoxFuture<'_, ()>;

    /// Whether these images exist already. Builds nothing.
    fn images_ready<'a>(&'a self, wanted: WantedImages<'a>) -> BoxFuture<'a, bool>;

    /// Makes sure that these images exist: builds or pulls what is missing, and tells of its progress. One who stops
    /// waiting leaves a build running.
    ///
    /// # Errors
    /// An image can't be made, or the Engine fails.
    fn ensure_images<'a>(
        &'a self,
        wanted: WantedImages<'a>,
        progress: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SandboxError>>;

    /// Ends what runs in the background, such as removals. Called once, at the end of a drain.
    fn close(&self) -> BoxFuture<'_, ()>;
}
