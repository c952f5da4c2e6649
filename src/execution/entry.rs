//! One execution while the server knows it: its spec until it ran, its live output, and its state, which becomes
//! terminal exactly once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::live::Live;
use crate::execution::spec::ExecutionSpec;
use crate::execution::state::{Execution, Finished, Output, Status};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ExecutionId,
    pub(super) tenant: Tenant,
    pub(super) live: Arc<Live>,
    /// Fires when somebody wants it killed.
    pub(super) cancel: CancellationToken,
    /// From the monotonic clock: the wall clock may jump.
    pub(super) accepted: Instant,
    language: Arc<str>,
    version: Arc<str>,
    labels: Arc<BTreeMap<String, String>>,
    created_at: Timestamp,
    /// Dropped at the end, and with it the uploaded project.
    spec: Mutex<Option<Arc<ExecutionSpec>>>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone)]
struct State {
    status: Status,
    attempt: u32,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    finished: Option<(Arc<Finished>, Output)>,
}

impl Entry {
    pub(super) fn new(spec: ExecutionSpec) -> Self {
        Self {
            id: ExecutionId::random(),
            tenant: spec.tenant.clone(),
            live: Arc::new(Live::new(spec.limits.output_bytes)),
            cancel: CancellationToken::new(),
            accepted: Instant::now(),
            language: Arc::from(spec.runtime.name.as_str()),
            version: Arc::from(spec.runtime.version.as_str()),
            labels: Arc::new(spec.labels.clone()),
            created_at: Timestamp::now(),
            spec: Mutex::new(Some(Arc::new(spec))),
            state: watch::Sender::new(State {
                status: Status::Pending,
                attempt: 1,
                started_at: None,
                finished_at: None,
                finished: None,
            }),
        }
    }

    pub(super) fn spec(&self) -> Option<Arc<ExecutionSpec>> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A worker has it. False when it is over already.
    pub(super) fn start(&self) -> bool {
        self.state.send_if_modified(|state| {
            let pending = state.status == Status::Pending;
            if pending {
                state.status = Status::Running;
                state.started_at = Some(Timestamp::now());
            }
            pending
        })
    }

    pub(super) fn set_attempt(&self, attempt: u32) {
        self.state.send_modify(|state| state.attempt = attempt);
    }

    /// The one terminal change. False when it was terminal already; then nothing changes. `before_seen` runs when it
    /// is certain and nobody has seen it yet.
    pub(super) fn finish(&self, status: Status, finished: Finished, before_seen: impl FnOnce()) -> bool {
        let output = self.live.seal();
        // Before anybody can see the end: the uploaded project goes with it. A worker at work has its own hold on it.
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).take();
        let first = self.state.send_if_modified(|state| {
            if state.status.is_terminal() {
                return false;
            }
            state.status = status;
            state.finished_at = Some(Timestamp::now());
            state.finished = Some((Arc::new(finished), output));
            before_seen();
            true
        });
        if first {
            self.live.close();
        }
        first
    }

    pub(super) fn status(&self) -> Status {
        self.state.borrow().status
    }

    /// Waits for the terminal state, at most this long.
    pub(super) async fn wait(&self, at_most: Option<Duration>) {
        let mut changes = self.state.subscribe();
        let terminal = changes.wait_for(|state| state.status.is_terminal());
        // Either way the caller looks at the state next; a time-out is no error.
        match at_most {
            Some(limit) => drop(tokio::time::timeout(limit, terminal).await),
            None => drop(terminal.await),
        }
    }

    pub(super) fn snapshot(&self) -> Execution {
        let State { status, attempt, started_at, finished_at, finished } = self.state.borrow().clone();
        let (finished, output) = match finished {
            Some((finished, output)) => (Some(finished), output),
            None => (None, self.live.snapshot()),
        };
        Execution {
            id: self.id,
            tenant: self.tenant.clone(),
            status,
            language: Arc::clone(&self.language),
            version: Arc::clone(&self.version),
            labels: Arc::clone(&self.labels),
            attempt,
            created_at: self.created_at,
            started_at,
            finished_at,
            output,
            finished,
        }
    }

    /// What keeping it costs: output and artifacts, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let state = self.state.borrow();
        state.finished.as_ref().map_or(0, |(finished, output)| {
            let artifacts: u64 = finished.artifacts.iter().map(|artifact| artifact.size).sum();
            artifacts + output.len() as u64
        })
    }
}
