//! A worker takes one execution after another and sees each through to its one terminal state.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tracing::{error, warn};

use crate::execution::entry::Entry;
use crate::execution::service::{Inner, no_run};
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::execution::state::{Finished, Status};
use crate::sandbox::{Job, Reason, Report, SandboxError};

/// Tries before an execution is given up as our failure.
const MAX_ATTEMPTS: u32 = 3;
/// Before the second attempt; the third waits twice as long.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Bytes of the result channel that are kept.
const MAX_RESULT: usize = 256 << 10;

pub(super) async fn work(inner: Arc<Inner>, slot: u16) {
    while let Some(entry) = inner.queue.pop().await {
        let Some(spec) = entry.spec() else { continue };
        if !entry.start() {
            continue;
        }
        let taken = Instant::now();
        let (status, finished) = match attempts(&inner, &entry, &spec, slot).await {
            Ok(report) => (status_of(report.outcome.reason), finished(&entry, &spec, taken, report)),
            Err(error) => (Status::Failed, internal(&entry, taken, &error)),
        };
        // The project's file goes before anybody can see the terminal state.
        drop(spec);
        inner.finish(&entry, status, finished);
    }
}

/// Tries until there is a report, or no further try would help.
async fn attempts(
    inner: &Inner,
    entry: &Entry,
    spec: &Arc<ExecutionSpec>,
    slot: u16,
) -> Result<Report, SandboxError> {
    let most = if matches!(spec.stdin, Stdin::Live(_)) { 1 } else { MAX_ATTEMPTS };
    let mut attempt = 1;
    loop {
        entry.set_attempt(attempt);
        entry.live.restart();
        let error = match one_attempt(inner, entry, spec, slot, attempt).await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        warn!(execution = %entry.id, attempt, %error, "the sandbox failed");
        if attempt >= most || !error.is_transient() {
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_DELAY * attempt) => {}
            () = entry.cancel.cancelled() => {}
        }
        attempt += 1;
    }
}

async fn one_attempt(
    inner: &Inner,
    entry: &Entry,
    spec: &Arc<ExecutionSpec>,
    slot: u16,
    attempt: u32,
) -> Result<Report, SandboxError> {
    let artifact_dir = inner.data.attempt_dir(&entry.id.to_string(), attempt)?;
    let job = Job { id: entry.id, attempt, slot, spec: Arc::clone(spec), artifact_dir };
    let run = inner.sandbox.run(job, &*entry.live, entry.cancel.clone());
    // One broken execution must not take its worker along.
    AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
        error!(execution = %entry.id, "the sandbox panicked");
        Err(SandboxError::Lost("it panicked".into()))
    })
}

fn status_of(reason: Reason) -> Status {
    match reason {
        Reason::Exited | Reason::Signaled => Status::Completed,
        Reason::Killed => Status::Killed,
        _ => Status::Failed,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn finished(entry: &Entry, spec: &ExecutionSpec, taken: Instant, report: Report) -> Finished {
    let (stdout_cut, stderr_cut) = entry.live.cut();
    let mut truncated = report.truncated;
    truncated.stdout |= stdout_cut;
    truncated.stderr |= stderr_cut;
    let mut notices = spec.notices.clone();
    notices.extend(report.notices);
    let result = parse_result(&report.result, &mut notices);
    Finished {
        outcome: report.outcome,
        compile: report.compile,
        artifacts: report.artifacts,
        truncated,
        usage: report.usage,
        queue_us: micros(taken.duration_since(entry.accepted)),
        duration_us: micros(entry.accepted.elapsed()),
        timings: report.timings,
        result,
        notices,
    }
}

/// The result channel carries one JSON object; anything else is the program's own doing and only worth a notice.
fn parse_result(bytes: &[u8], notices: &mut Vec<String>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Channel {
        result: Option<String>,
    }
    if bytes.is_empty() {
        return None;
    }
    if bytes.len() >= MAX_RESULT {
        notices.push(format!("the result was left out: it is over {MAX_RESULT} bytes"));
        return None;
    }
    match serde_json::from_slice::<Channel>(bytes) {
        Ok(channel) => channel.result,
        Err(_) => {
            notices.push(
                "the result was left out: the program wrote something else to the result channel".into(),
            );
            None
        }
    }
}

fn internal(entry: &Entry, taken: Instant, error: &SandboxError) -> Finished {
    let message = match error {
        // Says what to do, and holds nothing of the host.
        SandboxError::Image(message) => message.clone(),
        // The details are in the log, with the execution's id.
        _ => "the server failed to run it; nothing is wrong with the program".into(),
    };
    let queue_us = micros(taken.duration_since(entry.accepted));
    no_run(Reason::Internal, message, queue_us, micros(entry.accepted.elapsed()), Vec::new())
}

/// The result of an execution that ended while it waited.
pub(super) fn never_ran(entry: &Entry, reason: Reason, why: &str) -> Finished {
    let waited = micros(entry.accepted.elapsed());
    no_run(reason, why.to_owned(), waited, waited, Vec::new())
}
