//! The one way in which an execution becomes terminal: its result is written first, and then it can be seen.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::execution::content::Content;
use crate::execution::entry::Entry;
use crate::execution::record;
use crate::execution::service::Inner;
use crate::execution::state::{Finished, Output, Status};
use crate::failpoint;
use crate::store::{ContentHash, Ending, Pin, Store, StoreError};

/// Before a store that failed is tried again; the server takes no new work meanwhile, for it can't keep it either.
const RETRY: Duration = Duration::from_secs(1);

/// How an execution ended, on its way into the store. What was done of it stays done when the rest is tried again.
struct End<'a> {
    entry: &'a Entry,
    status: Status,
    finished_at: Timestamp,
    finished: Finished,
    output: Output,
    /// The same, where it is a file: readers of it then hold none of it in memory.
    kept: Option<Output<Content>>,
    /// The artifacts that are in the store, then the output when it is large.
    files: Vec<Pin>,
}

impl Inner {
    /// Records the end and shows it. Only whoever has the execution calls this: a worker, or whoever took it from the
    /// queue. While the store fails it is tried again, until the server ends; the next one runs the execution again.
    pub(super) async fn finish(&self, entry: &Entry, status: Status, finished: Finished) {
        entry.drop_spec();
        let output = entry.live.seal();
        let finished_at = Timestamp::now();
        let mut end = End { entry, status, finished_at, finished, output, kept: None, files: Vec::new() };
        if self.record(&mut end).await {
            failpoint::pass("finish.recorded");
            self.discard_scratch(entry);
            self.show(end);
        } else {
            self.let_go(entry);
        }
    }

    /// False when it was not recorded, and will not be.
    async fn record(&self, end: &mut End<'_>) -> bool {
        let execution = end.entry.id;
        loop {
            match end.record(&self.store).await {
                Ok(true) => return true,
                Ok(false) => {
                    error!(%execution, "it has another end already; this one is dropped");
                    return false;
                }
                Err(error) => warn!(%execution, %error, "its end can't be recorded; this is tried again"),
            }
            end.entry.set_unrecorded();
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.closing.cancelled() => return false,
            }
        }
    }

    fn show(&self, end: End<'_>) {
        let End { entry, status, finished_at, finished, output, kept, .. } = end;
        let output = kept.unwrap_or_else(|| output.into());
        self.finishers.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.tenant.clone());
        // Counted out before a waiter can wake and look at the load.
        entry.finish(status, finished_at, finished, output, || {
            self.unfinished.send_modify(|count| *count -= 1);
        });
        if let Some(execution) = entry.finished() {
            let reason = execution.finished.as_ref().map_or("", |finished| finished.outcome.reason.as_str());
            info!(execution = %entry.id, status = status.as_str(), reason, "finished");
            (self.on_finish)(&execution);
        }
        self.forget(entry.id);
        failpoint::pass("finish.shown");
    }

    /// What attempts left that is no part of the result.
    pub(super) fn discard_scratch(&self, entry: &Entry) {
        let (store, id) = (self.store.clone(), entry.id.to_string());
        if !store.data().has_scratch(&id) {
            return;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.data().remove(&id) {
                warn!(execution = %id, %error, "its scratch could not be removed; the next start does");
            }
        });
    }
}

impl End<'_> {
    /// Writes it all, files first. False when the store has another end.
    async fn record(&mut self, store: &Store) -> Result<bool, StoreError> {
        let durable = self.entry.detached;
        self.keep_artifacts(store, durable).await?;
        failpoint::pass("finish.artifacts");
        let output_file = self.keep_output(store, durable).await?;
        failpoint::pass("finish.output");
        let output = if output_file.is_some() {
            Vec::new()
        } else {
            self.output.streams().map(AsRef::as_ref).concat()
        };
        let artifacts: u64 = self.finished.artifacts.iter().map(|artifact| artifact.size).sum();
        let started_at = self.entry.started_at();
        let ending = Arc::new(Ending {
            id: self.entry.id.into(),
            attempt: self.entry.begun(),
            finished_at_ms: self.finished_at.as_millisecond(),
            result: record::ended(self.status, started_at, &self.finished, &self.output, output_file)?,
            output,
            files: std::mem::take(&mut self.files),
            bytes: artifacts + self.output.len() as u64 + self.finished.handed_back() as u64,
        });
        let recorded = store.finish(Arc::clone(&ending), durable).await;
        // The thread that writes has let go of it before it answers.
        self.files = Arc::try_unwrap(ending).map(|ending| ending.files).unwrap_or_default();
        recorded
    }

    /// Moves artifacts from the attempt's folder to where the record's files are.
    async fn keep_artifacts(&mut self, store: &Store, durable: bool) -> Result<(), StoreError> {
        for artifact in self.finished.artifacts.iter_mut().skip(self.files.len()) {
            let hash = ContentHash::from_hex(&artifact.sha256);
            let pin = store.take_file(artifact.file.clone(), hash, durable).await?;
            artifact.file = pin.path();
            self.files.push(pin);
        }
        Ok(())
    }

    async fn keep_output(&mut self, store: &Store, durable: bool) -> Result<Option<ContentHash>, StoreError> {
        if self.output.len() <= record::INLINE {
            return Ok(None);
        }
        if self.files.len() == self.finished.artifacts.len() {
            let streams = self.output.streams().map(Bytes::clone).to_vec();
            let pin = store.put_file(streams, durable).await?;
            // Read from memory where it can't be opened: it is there for now.
            let kept = record::in_file(pin.path(), self.output.streams().map(Bytes::len)).await;
            self.kept = kept.ok().flatten();
            self.files.push(pin);
        }
        Ok(self.files.last().map(Pin::hash))
    }
}
