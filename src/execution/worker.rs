//! A worker takes one execution after another and sees each through to its one terminal state.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::execution::entry::Entry;
use crate::execution::finishing::{finished, internal, status_of};
use crate::execution::service::Inner;
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::execution::state::Status;
use crate::sandbox::{Job, Reason, Report, SandboxError, Slot};
use crate::store::check_room;

/// Tries before an execution is given up as our failure.
pub(super) const MAX_ATTEMPTS: u32 = 3;
/// Before the second attempt; the third waits twice as long.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Before a store that failed is tried again.
const STORE_DELAY: Duration = Duration::from_secs(1);

pub(super) async fn work(inner: Arc<Inner>) {
    while let Some(taken) = inner.queue.pop().await {
        see_through(&inner, &taken.item).await;
    }
}

async fn see_through(inner: &Inner, entry: &Entry) {
    let Some(spec) = entry.spec() else { return };
    // It still counts as waiting, and a kill ends it at once.
    until_ready(inner, entry).await;
    if entry.cancel.is_cancelled() {
        return inner.end_unstarted(entry, "it was killed on request").await;
    }
    entry.start();
    let taken = Instant::now();
    let freed = CancellationToken::new();
    let slot = Arc::new(freed.clone().drop_guard());
    let ended = attempts(inner, entry, &spec, &slot).await;
    drop(slot);
    let unfinished = ended.as_ref().map_or(true, |report| report.outcome.reason == Reason::Killed);
    if entry.is_left() && unfinished {
        return put_back(inner, entry).await;
    }
    let (status, finished) = match ended {
        Ok(report) => (status_of(report.outcome.reason), finished(entry, &spec, taken, report)),
        Err(error) => (Status::Failed, internal(entry, taken, &error)),
    };
    // The project's file goes before anybody can see the terminal state.
    drop(spec);
    inner.finish(entry, status, finished).await;
    // A container that had to be killed from outside uses this worker's share of the machine until it is gone.
    freed.cancelled().await;
}

/// The drain ended it, which is nobody's fault: the attempt does not count.
async fn put_back(inner: &Inner, entry: &Entry) {
    let begun = entry.begun().saturating_sub(1);
    if let Err(error) = inner.store.put_back(entry.id.into(), begun).await {
        warn!(execution = %entry.id, %error, "its attempt counts, for the store fails");
    }
    inner.discard_scratch(entry);
    inner.let_go(entry);
}

/// Waits while the engine is away, or until somebody wants the execution killed. A drain kills what is left at its end.
async fn until_ready(inner: &Inner, entry: &Entry) {
    tokio::select! {
        () = inner.sandbox.until_ready() => {}
        () = entry.cancel.cancelled() => {}
    }
}

/// Tries until there is a report, or no further try would help. An attempt that found the engine away is made again
/// once it is back, and does not count; one whose program was lost with the engine does.
async fn attempts(
    inner: &Inner,
    entry: &Entry,
    spec: &Arc<ExecutionSpec>,
    slot: &Slot,
) -> Result<Report, SandboxError> {
    let mut attempt = entry.begun() + 1;
    loop {
        begin(inner, entry, attempt).await?;
        entry.live.restart();
        let error = match one_attempt(inner, entry, spec, attempt, slot).await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        warn!(execution = %entry.id, attempt, %error, "the sandbox failed");
        let away = matches!(error, SandboxError::Away(_));
        if !away && (attempt >= most_attempts(spec) || !error.is_transient()) {
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_DELAY * attempt) => {}
            () = entry.cancel.cancelled() => {}
        }
        if away {
            until_ready(inner, entry).await;
            continue;
        }
        if matches!(error, SandboxError::Storage(_)) {
            until_roomy(inner, entry).await;
        }
        attempt += 1;
    }
}

/// Waits while the data folder takes no files, which the next attempt needs, too; or until somebody wants the execution
/// killed.
async fn until_roomy(inner: &Inner, entry: &Entry) {
    loop {
        let spool = inner.store.data().spool();
        if let Ok(Ok(())) = tokio::task::spawn_blocking(move || check_room(&spool)).await {
            return;
        }
        entry.set_unrecorded();
        tokio::select! {
            () = tokio::time::sleep(STORE_DELAY) => {}
            () = entry.cancel.cancelled() => return,
        }
    }
}

/// Records that an attempt begins, so that one which takes the server down with it counts. Nothing runs while the store
/// fails: its end could not be recorded either.
async fn begin(inner: &Inner, entry: &Entry, attempt: u32) -> Result<(), SandboxError> {
    loop {
        match inner.store.begin(entry.id.into(), attempt).await {
            Ok(()) => {
                entry.set_begun(attempt);
                return Ok(());
            }
            Err(error) => {
                warn!(execution = %entry.id, %error, "it can't begin; this is tried again");
                entry.set_unrecorded();
                tokio::select! {
                    () = tokio::time::sleep(STORE_DELAY) => {}
                    () = entry.cancel.cancelled() => return Err(std::io::Error::other(error).into()),
                }
            }
        }
    }
}

/// Live input that a program may have read can't be given to another.
fn most_attempts(spec: &ExecutionSpec) -> u32 {
    match &spec.stdin {
        Stdin::Live(input) if input.lock().unwrap_or_else(PoisonError::into_inner).is_none() => 1,
        Stdin::Live(_) | Stdin::Bytes(_) | Stdin::Scratch(_) | Stdin::Kept(..) => MAX_ATTEMPTS,
    }
}

async fn one_attempt(
    inner: &Inner,
    entry: &Entry,
    spec: &Arc<ExecutionSpec>,
    attempt: u32,
    slot: &Slot,
) -> Result<Report, SandboxError> {
    let artifact_dir = inner.store.data().attempt_dir(&entry.id.to_string(), attempt);
    let job = Job { id: entry.id, attempt, spec: Arc::clone(spec), artifact_dir, slot: Arc::clone(slot) };
    let run = inner.sandbox.run(job, &*entry.live, entry.cancel.clone());
    // One broken execution must not take its worker along.
    AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
        error!(execution = %entry.id, "the sandbox panicked");
        Err(SandboxError::Lost("it panicked".into()))
    })
}
