//! One execution while the server knows it: its spec until it ran, its live output, and its state, which becomes
//! terminal exactly once.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::execution::backlog::BacklogPermit;
use crate::execution::content::Content;
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::live::Live;
use crate::execution::spec::{ExecutionSpec, KeyShare};
use crate::execution::state::{Execution, Finished, Output, Status};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ExecutionId,
    pub(super) tenant: Tenant,
    pub(super) share: Option<KeyShare>,
    pub(super) live: Arc<Live>,
    /// Fires when somebody wants it killed.
    pub(super) cancel: CancellationToken,
    /// From the monotonic clock: the wall clock may jump.
    pub(super) accepted: Instant,
    pub(super) created_at: Timestamp,
    /// Its caller has the id and does not wait: it outlives the server.
    pub(super) detached: bool,
    /// Attempts that were begun, as the store has it.
    begun: AtomicU32,
    /// The next server has it.
    left: AtomicBool,
    language: Arc<str>,
    version: Arc<str>,
    labels: Arc<BTreeMap<String, String>>,
    /// Dropped at the end, and with it the uploaded project.
    spec: Mutex<Option<Arc<ExecutionSpec>>>,
    /// Dropped with the spec.
    permit: Mutex<Option<BacklogPermit>>,
    state: watch::Sender<State>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// It is terminal, or the time is over.
    Enough,
    /// It ended, and that can't be recorded for now.
    Unrecorded,
}

#[derive(Debug, Clone)]
struct State {
    status: Status,
    /// It ended, and the store does not take it.
    unrecorded: bool,
    /// No further change will come from this server.
    left: bool,
    attempt: u32,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    finished: Option<(Arc<Finished>, Output<Content>)>,
}

impl Entry {
    pub(super) fn new(spec: ExecutionSpec, detached: bool) -> Self {
        Self::again(ExecutionId::random(), spec, detached, Timestamp::now(), 0)
    }

    /// One of which attempts were begun before.
    pub(super) fn again(
        id: ExecutionId,
        spec: ExecutionSpec,
        detached: bool,
        created_at: Timestamp,
        begun: u32,
    ) -> Self {
        Self {
            id,
            detached,
            begun: AtomicU32::new(begun),
            left: AtomicBool::new(false),
            tenant: spec.tenant.clone(),
            share: spec.share.clone(),
            live: Arc::new(Live::new(spec.limits.output_bytes)),
            cancel: CancellationToken::new(),
            accepted: Instant::now(),
            language: Arc::from(spec.runtime.name.as_str()),
            version: Arc::from(spec.runtime.version.as_str()),
            labels: Arc::new(spec.labels.clone()),
            created_at,
            spec: Mutex::new(Some(Arc::new(spec))),
            permit: Mutex::new(None),
            state: watch::Sender::new(State {
                status: Status::Pending,
                unrecorded: false,
                left: false,
                attempt: begun + 1,
                started_at: None,
                finished_at: None,
                finished: None,
            }),
        }
    }

    pub(super) fn spec(&self) -> Option<Arc<ExecutionSpec>> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A worker has it.
    pub(super) fn start(&self) {
        self.state.send_modify(|state| {
            state.status = Status::Running;
            state.started_at = Some(Timestamp::now());
        });
    }

    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    /// The store has it that this attempt began.
    pub(super) fn set_begun(&self, attempt: u32) {
        self.begun.store(attempt, Ordering::SeqCst);
        self.state.send_modify(|state| {
            state.attempt = attempt;
            state.unrecorded = false;
        });
    }

    /// Counts its project and input until they go.
    pub(super) fn count(&self, permit: BacklogPermit) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// The uploaded project goes, before anybody can see the end. A worker at work has its own hold on it.
    pub(super) fn drop_spec(&self) {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The one terminal change, once it is recorded. `before_seen` runs when nobody has seen it yet.
    pub(super) fn finish(
        &self,
        status: Status,
        finished_at: Timestamp,
        finished: Finished,
        output: Output<Content>,
        before_seen: impl FnOnce(),
    ) {
        self.state.send_modify(|state| {
            state.status = status;
            state.unrecorded = false;
            state.finished_at = Some(finished_at);
            state.finished = Some((Arc::new(finished), output));
            before_seen();
        });
        self.live.close();
    }

    /// Whoever waits for the result need not wait for the store, too.
    pub(super) fn set_unrecorded(&self) {
        self.state.send_modify(|state| state.unrecorded = true);
    }

    /// It is for the next server to finish.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Nobody here works on it any more.
    pub(super) fn let_go(&self) {
        self.drop_spec();
        self.state.send_modify(|state| state.left = true);
        self.live.close();
    }

    pub(super) fn started_at(&self) -> Option<Timestamp> {
        self.state.borrow().started_at
    }

    /// Waits for the terminal state, at most this long; not for what only the next server will bring. Whoever set no time
    /// does not wait for a store that fails either.
    pub(super) async fn wait(&self, at_most: Option<Duration>) -> Waited {
        let mut changes = self.state.subscribe();
        let endless = at_most.is_none();
        let over = changes
            .wait_for(move |state| state.status.is_terminal() || state.left || (endless && state.unrecorded));
        // Either way the caller looks at the state next; a time-out is no error.
        match at_most {
            Some(limit) => drop(tokio::time::timeout(limit, over).await),
            None => drop(over.await),
        }
        if endless && self.state.borrow().unrecorded { Waited::Unrecorded } else { Waited::Enough }
    }

    /// What is known of it now. Large output is not copied: it is in a file, made in this folder where there is none.
    pub(super) async fn snapshot(self: &Arc<Self>, folder: PathBuf) -> io::Result<Execution> {
        if let Some(execution) = self.finished() {
            return Ok(execution);
        }
        let live = Arc::clone(&self.live);
        let output = tokio::task::spawn_blocking(move || live.snapshot(&folder)).await;
        let output = output.map_err(io::Error::other)??;
        let state = self.state.borrow();
        // It may have finished meanwhile.
        let (finished, output) =
            state.finished.clone().map_or((None, output), |(finished, output)| (Some(finished), output));
        Ok(self.with(&state, output, finished))
    }

    /// How it ended, once it has.
    pub(super) fn finished(&self) -> Option<Execution> {
        let state = self.state.borrow();
        let (finished, output) = state.finished.clone()?;
        Some(self.with(&state, output, Some(finished)))
    }

    fn with(&self, state: &State, output: Output<Content>, finished: Option<Arc<Finished>>) -> Execution {
        Execution {
            id: self.id,
            tenant: self.tenant.clone(),
            status: state.status,
            language: Arc::clone(&self.language),
            version: Arc::clone(&self.version),
            labels: Arc::clone(&self.labels),
            attempt: state.attempt,
            created_at: self.created_at,
            started_at: state.started_at,
            finished_at: state.finished_at,
            output,
            finished,
        }
    }
}
