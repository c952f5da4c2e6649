//! What a caller gets: an execution with all that is known of it. Null and empty fields are left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::execution::json::Json;
use crate::execution::state::{Execution, Finished, Output};
use crate::http::mime;
use crate::sandbox;

/// An execution and its result so far. `execution_id`, `status` and `exit_code` are always there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecResult {
    #[schema(example = "exe_550e8400-e29b-41d4-a716-446655440000")]
    execution_id: String,
    /// `failed` and `killed` say that a limit, somebody or we ended it; a program that exits non-zero is
    /// `completed`.
    #[schema(value_type = Status)]
    status: &'static str,
    /// The runtime's name.
    #[schema(value_type = String)]
    language: String,
    /// The runtime's version.
    version: String,
    /// Standard output up to the cap; bytes that are no UTF-8 are replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    stdout: String,
    /// Standard error up to the cap; bytes that are no UTF-8 are replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    stderr: String,
    /// The exact bytes of `stdout`, when it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    /// The exact bytes of `stderr`, when it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    /// The program's own exit code; 128 + n after signal n; 137 where it was killed for a limit or on request; the
    /// compiler's or the installer's where that failed; 125 where image, sandbox or server failed, or it was killed before its
    /// start; 126 where the program can't be executed and 127 where it is not there. Null until the execution has ended.
    #[schema(required = true)]
    exit_code: Option<i32>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Reason>)]
    reason: Option<&'static str>,
    /// A sentence that names the limit, the peak and the field that raises it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What the compiler or the failed program called the error, in its language's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "KeyError")]
    error_type: Option<String>,
    /// The file of the project that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "main.py")]
    error_file: Option<String>,
    /// The line of that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_line: Option<u32>,
    /// What the compiler or the program said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    /// `repr` of the last expression, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    /// What the called function returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(super) return_value: Option<Json>,
    /// What the program saved, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false, value_type = BTreeMap<String, serde_json::Value>)]
    pub(super) results: BTreeMap<String, Json>,
    /// The install phase, where this execution waited for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    install: Option<Install>,
    /// The compile phase, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compile: Option<Compile>,
    /// Files that came back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    artifacts: Vec<ArtifactItem>,
    /// What was cut at a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<Truncated>,
    /// What the program used.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// Where the time went.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
    /// Sentences for the caller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    notices: Vec<String>,
    /// The caller's own words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    labels: BTreeMap<String, String>,
    /// Which try this is; more than 1 after a failure of ours.
    attempt: u32,
    /// When it was accepted: UTC, three fractional digits.
    #[schema(example = "2026-01-15T10:30:00.000Z")]
    created_at: String,
    /// When a worker took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    /// When it became terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    /// From acceptance to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
}

/// Where an execution is on its way.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used: the words come from the execution layer")]
pub(super) enum Status {
    Pending,
    Running,
    Completed,
    Failed,
    Killed,
}

/// Why an execution ended.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used: the words come from the sandbox layer")]
pub(super) enum Reason {
    Exited,
    Signaled,
    CompileFailed,
    InstallFailed,
    TimedOut,
    OutOfMemory,
    OutputLimit,
    DiskLimit,
    Killed,
    Internal,
}

/// The install phase.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Install {
    /// The end of what the installer wrote.
    log: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    duration_ms: u64,
}

/// The compile phase.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Compile {
    stdout: String,
    stderr: String,
    pub(super) exit_code: i32,
    pub(super) duration_ms: u64,
}

/// A file that the program left.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ArtifactItem {
    /// Relative to the workspace.
    #[schema(example = "plot.png")]
    path: String,
    /// In bytes.
    size: u64,
    /// Of the content, hexadecimal.
    sha256: String,
    /// Guessed from the name.
    #[schema(example = "image/png")]
    mime: String,
}

/// What was cut at a cap.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Truncated {
    stdout: bool,
    stderr: bool,
    artifacts: bool,
    /// Some of what the program handed back.
    results: bool,
}

/// What the program used.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Usage {
    wall_ms: u64,
    cpu_ms: u64,
    /// Highest memory that counts against `memory_mb`, as far as it was seen: anonymous and shared memory and page
    /// tables of the program, or of its compiler; no files.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
    /// Processes that the kernel killed because the container's memory was used up. Above 0 with a program that went on,
    /// a notice says so.
    oom_kills: u64,
}

/// Where the time went, in milliseconds with three fractional digits. The parts do not overlap, and their sum is the time
/// from acceptance to the end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Timings {
    /// It waited for a worker.
    queue_ms: f64,
    /// Dependencies were installed.
    install_ms: f64,
    /// It waited for its container, its files went in; and attempts that were lost before.
    sandbox_ms: f64,
    /// The compiler.
    compile_ms: f64,
    /// The program.
    run_ms: f64,
    /// What was left of it ended, artifacts came out.
    collect_ms: f64,
}

impl ExecResult {
    /// With this output, in whole.
    pub(super) fn new(execution: &Execution, output: &Output) -> Self {
        let finished = execution.finished.as_deref();
        let outcome = finished.map(|finished| &finished.outcome);
        let said = finished.and_then(|finished| finished.diagnosis.clone()).unwrap_or_default();
        let (stdout, stdout_base64) = text(&output.stdout);
        let (stderr, stderr_base64) = text(&output.stderr);
        Self {
            execution_id: execution.id.to_string(),
            status: execution.status.as_str(),
            language: execution.language.to_string(),
            version: execution.version.to_string(),
            stdout,
            stderr,
            stdout_base64,
            stderr_base64,
            exit_code: outcome.map(|outcome| outcome.exit_code),
            reason: outcome.map(|outcome| outcome.reason.as_str()),
            error: outcome.and_then(|outcome| outcome.error.clone()),
            error_type: said.kind,
            error_file: said.file,
            error_line: said.line,
            error_message: said.message,
            result: finished.and_then(|finished| finished.result.clone()),
            return_value: finished.and_then(|finished| finished.return_value.clone()),
            results: finished.map(|finished| finished.results.clone()).unwrap_or_default(),
            install: finished.and_then(|finished| finished.install.as_ref()).map(Install::from),
            compile: finished.and_then(|finished| compile(output, finished)),
            artifacts: finished.map(artifacts).unwrap_or_default(),
            truncated: finished.map(|finished| Truncated::from(finished.truncated)),
            usage: finished.map(|finished| Usage::from(finished.usage)),
            timings: finished.map(timings),
            notices: finished.map(|finished| finished.notices.clone()).unwrap_or_default(),
            labels: execution.labels.as_ref().clone(),
            attempt: execution.attempt,
            created_at: time(execution.created_at),
            started_at: execution.started_at.map(time),
            finished_at: execution.finished_at.map(time),
            duration_ms: finished.map(|finished| millis(finished.duration_us)),
        }
    }
}

/// The artifacts of a finished execution.
pub(super) fn artifacts(finished: &Finished) -> Vec<ArtifactItem> {
    let item = |artifact: &sandbox::Artifact| ArtifactItem {
        path: artifact.path.clone(),
        size: artifact.size,
        sha256: artifact.sha256.clone(),
        mime: mime::of(&artifact.path),
    };
    finished.artifacts.iter().map(item).collect()
}

fn compile(output: &Output, finished: &Finished) -> Option<Compile> {
    finished.compile.map(|report| Compile {
        stdout: text(&output.compile_stdout).0,
        stderr: text(&output.compile_stderr).0,
        exit_code: report.exit_code,
        duration_ms: millis(report.duration_us),
    })
}

fn timings(finished: &Finished) -> Timings {
    Timings {
        queue_ms: exact_millis(finished.queue_us),
        install_ms: exact_millis(finished.timings.install_us),
        sandbox_ms: exact_millis(finished.timings.sandbox_us),
        compile_ms: exact_millis(finished.timings.compile_us),
        run_ms: exact_millis(finished.timings.run_us),
        collect_ms: exact_millis(finished.timings.collect_us),
    }
}

impl From<&sandbox::InstallReport> for Install {
    fn from(report: &sandbox::InstallReport) -> Self {
        Self { log: report.log.clone(), exit_code: report.exit_code, duration_ms: millis(report.duration_us) }
    }
}

impl From<sandbox::Truncated> for Truncated {
    fn from(cut: sandbox::Truncated) -> Self {
        Self { stdout: cut.stdout, stderr: cut.stderr, artifacts: cut.artifacts, results: cut.results }
    }
}

impl From<sandbox::Usage> for Usage {
    fn from(usage: sandbox::Usage) -> Self {
        Self {
            wall_ms: millis(usage.wall_us),
            cpu_ms: millis(usage.cpu_us),
            memory_peak_bytes: usage.memory_peak_bytes,
            oom_kills: usage.oom_kills,
        }
    }
}

/// The text, and the exact bytes in base64 when the text is not exact.
fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(BASE64_STANDARD.encode(bytes))),
    }
}

/// Exactly three fractional digits: older readers of ISO 8601 take three or six and nothing else.
fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// With three fractional digits. Exact below 2^53, some 285 years.
#[allow(clippy::cast_precision_loss)]
fn exact_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// To the nearest millisecond.
fn millis(micros: u64) -> u64 {
    micros.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_z_and_three_digits() {
        assert_eq!(time(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let later = Timestamp::from_microsecond(1_768_472_999_999_999).unwrap();
        assert_eq!(time(later).len(), "2026-01-15T10:29:59.999Z".len());
    }

    #[test]
    fn bytes_that_are_no_text_come_twice() {
        assert_eq!(text(b"plain"), ("plain".into(), None));
        assert_eq!(text(b"\xff\x00a"), ("\u{fffd}\0a".into(), Some("/wBh".into())));
    }

    #[test]
    fn the_documented_words_are_those_of_the_execution_layer() {
        use utoipa::PartialSchema as _;
        let words = |schema: utoipa::openapi::RefOr<utoipa::openapi::Schema>| {
            serde_json::to_value(schema).unwrap()["enum"].clone()
        };
        assert_eq!(
            words(Status::schema()),
            serde_json::json!(["pending", "running", "completed", "failed", "killed"])
        );
        for word in words(Reason::schema()).as_array().unwrap() {
            let reason: sandbox::Reason = serde_json::from_value(word.clone()).unwrap();
            assert_eq!(reason.as_str(), word.as_str().unwrap());
        }
    }
}
