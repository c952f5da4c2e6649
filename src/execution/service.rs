//! The service that owns executions: submit, get, wait, cancel, purge, drain. Sync and async callers use the same
//! path; an execution belongs to a worker here, never to a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::execution::entry::Entry;
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::idempotency::{IdempotencyKey, Keys, Known};
use crate::execution::live::Follower;
use crate::execution::queue::{Full, Queue};
use crate::execution::spec::ExecutionSpec;
use crate::execution::state::{Execution, Finished, Status};
use crate::execution::{finishing, worker};
use crate::sandbox::{Reason, Sandbox};
use crate::store::{DataDir, Retention, RetentionPolicy};

/// Sizes of the service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceConfig {
    /// Executions that run at once.
    pub workers: u16,
    /// Executions that may wait.
    pub queue_length: usize,
    /// How many of them may be one tenant's.
    pub tenant_queue_length: usize,
    /// How long finished ones are kept.
    pub retention: RetentionPolicy,
}

/// Why a spec was not accepted. Nothing of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; try again after this long.
    #[error("the queue of {length} executions is full")]
    QueueFull {
        /// How many may wait.
        length: usize,
        /// A guess at when there is room.
        retry_after: Duration,
    },
    /// The tenant has its whole share of the queue; try again after this long.
    #[error("your {length} places in the queue are taken")]
    ShareFull {
        /// How many of one tenant may wait.
        length: usize,
        /// A guess at when there is room.
        retry_after: Duration,
    },
    /// The idempotency key names another request of this tenant.
    #[error("this Idempotency-Key was used with another request; use a fresh key for a new request")]
    KeyReused,
    /// The server is shutting down.
    #[error("the server is shutting down and takes no new executions")]
    Draining,
}

/// How many executions are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Waiting for a worker.
    pub queued: usize,
    /// Running.
    pub running: usize,
    /// Finished and still kept.
    pub kept: usize,
}

/// Owns executions. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

pub(super) struct Inner {
    pub(super) sandbox: Arc<dyn Sandbox>,
    pub(super) data: DataDir,
    pub(super) queue: Queue<Arc<Entry>>,
    config: ServiceConfig,
    index: Mutex<Index>,
    keys: Mutex<Keys>,
    /// Accepted and not yet terminal; the drain waits for zero.
    unfinished: watch::Sender<usize>,
    draining: std::sync::atomic::AtomicBool,
    on_finish: FinishHook,
}

/// Told of each execution that finished, for metrics.
pub type FinishHook = Box<dyn Fn(&Execution) + Send + Sync>;

struct Index {
    entries: HashMap<ExecutionId, Arc<Entry>>,
    retention: Retention<ExecutionId>,
}

/// How often executions that are too old are looked for.
const SWEEP: Duration = Duration::from_secs(2);
/// What is guessed for one execution in the queue when a caller is told when to come again.
const GUESS_PER_EXECUTION: Duration = Duration::from_millis(250);

impl Service {
    /// Starts the workers on the current tokio runtime.
    #[must_use]
    pub fn start(
        config: ServiceConfig,
        sandbox: Arc<dyn Sandbox>,
        data: DataDir,
        on_finish: FinishHook,
    ) -> Self {
        let index = Index { entries: HashMap::new(), retention: Retention::new(config.retention) };
        let inner = Arc::new(Inner {
            sandbox,
            data,
            queue: Queue::new(config.queue_length, config.tenant_queue_length),
            config,
            index: Mutex::new(index),
            keys: Mutex::default(),
            unfinished: watch::Sender::new(0),
            draining: false.into(),
            on_finish,
        });
        for slot in 0..config.workers {
            tokio::spawn(worker::work(Arc::clone(&inner), slot));
        }
        tokio::spawn(sweep(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Accepts a spec, or refuses it at once.
    ///
    /// # Errors
    /// The queue is full, or the server is draining.
    pub fn submit(&self, spec: ExecutionSpec) -> Result<ExecutionId, SubmitError> {
        let inner = &self.0;
        if inner.draining.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(SubmitError::Draining);
        }
        let entry = Arc::new(Entry::new(spec));
        let id = entry.id;
        inner.index().entries.insert(id, Arc::clone(&entry));
        inner.unfinished.send_modify(|count| *count += 1);
        let tenant = entry.tenant.clone();
        if let Err(full) = inner.queue.push(&tenant, entry) {
            inner.index().entries.remove(&id);
            inner.unfinished.send_modify(|count| *count -= 1);
            return Err(inner.no_room(full));
        }
        info!(execution = %id, "accepted");
        Ok(id)
    }

    /// Accepts a spec under an idempotency key: the same request gives the execution that it gave before, while that
    /// is kept; one that is forgotten is not run again.
    ///
    /// # Errors
    /// As [`Self::submit`], and when the key names another request.
    pub fn submit_once(&self, spec: ExecutionSpec, key: IdempotencyKey) -> Result<ExecutionId, SubmitError> {
        let tenant = spec.tenant.clone();
        // Held until the key is remembered, so that of two at once only one is new.
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.look_up(&tenant, &key, Instant::now()) {
            Known::Same(id) => Ok(id),
            Known::Another => Err(SubmitError::KeyReused),
            Known::No => {
                let id = self.submit(spec)?;
                keys.remember(&tenant, key, id, Instant::now());
                Ok(id)
            }
        }
    }

    /// What is known of an execution of this tenant; `None` for another's, as for one that never was.
    #[must_use]
    pub fn get(&self, tenant: &Tenant, id: ExecutionId) -> Option<Execution> {
        self.0.find(tenant, id).map(|entry| entry.snapshot())
    }

    /// Waits until it is terminal, at most this long (`None`: as long as it takes), and gives what is known then.
    pub async fn wait(
        &self,
        tenant: &Tenant,
        id: ExecutionId,
        at_most: Option<Duration>,
    ) -> Option<Execution> {
        let entry = self.0.find(tenant, id)?;
        entry.wait(at_most).await;
        Some(entry.snapshot())
    }

    /// Its output as it comes, from the beginning.
    #[must_use]
    pub fn follow(&self, tenant: &Tenant, id: ExecutionId) -> Option<Follower> {
        self.0.find(tenant, id).map(|entry| entry.live.follow())
    }

    /// Kills it and waits until it is terminal. One that is finished already stays as it is.
    pub async fn cancel(&self, tenant: &Tenant, id: ExecutionId) -> Option<Status> {
        let entry = self.0.find(tenant, id)?;
        self.0.cancel(&entry, "it was killed on request");
        entry.wait(None).await;
        Some(entry.status())
    }

    /// Kills it, and forgets its record and files.
    pub async fn purge(&self, tenant: &Tenant, id: ExecutionId) -> Option<Status> {
        let status = self.cancel(tenant, id).await?;
        {
            let mut index = self.0.index();
            index.entries.remove(&id);
            index.retention.remove(&id);
        }
        forget(Arc::clone(&self.0), vec![id]).await;
        Some(status)
    }

    /// How many executions are where.
    #[must_use]
    pub fn load(&self) -> Load {
        let queued = self.0.queue.len();
        let unfinished = *self.0.unfinished.borrow();
        let kept = self.0.index().entries.len().saturating_sub(unfinished);
        Load { queued, running: unfinished.saturating_sub(queued), kept }
    }

    /// Where executions run.
    #[must_use]
    pub fn sandbox(&self) -> &dyn Sandbox {
        &*self.0.sandbox
    }

    /// Where uploads are spooled.
    #[must_use]
    pub fn spool_dir(&self) -> std::path::PathBuf {
        self.0.data.spool()
    }

    /// No new work is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Takes no new work, gives what was accepted this long to finish, then kills the rest and closes the sandbox.
    pub async fn drain(&self, grace: Duration) {
        let inner = &self.0;
        inner.draining.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut unfinished = inner.unfinished.subscribe();
        if tokio::time::timeout(grace, unfinished.wait_for(|count| *count == 0)).await.is_err() {
            let left: Vec<_> = inner.index().entries.values().cloned().collect();
            for entry in left {
                inner.cancel(&entry, "the server was shut down before it finished");
            }
            drop(unfinished.wait_for(|count| *count == 0).await);
        }
        inner.queue.close();
        inner.sandbox.close().await;
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, tenant: &Tenant, id: ExecutionId) -> Option<Arc<Entry>> {
        self.index().entries.get(&id).filter(|entry| entry.tenant == *tenant).cloned()
    }

    fn no_room(&self, full: Full) -> SubmitError {
        let length = match full {
            Full::Queue => self.config.queue_length,
            Full::Share => self.config.tenant_queue_length,
        };
        let ahead = u32::try_from(length / usize::from(self.config.workers.max(1))).unwrap_or(u32::MAX);
        let retry_after = GUESS_PER_EXECUTION.saturating_mul(ahead);
        let retry_after = retry_after.clamp(Duration::from_secs(1), Duration::from_secs(60));
        match full {
            Full::Queue => SubmitError::QueueFull { length, retry_after },
            Full::Share => SubmitError::ShareFull { length, retry_after },
        }
    }

    /// Kills a running one; one that waits ends here and now.
    fn cancel(&self, entry: &Arc<Entry>, why: &str) {
        entry.cancel.cancel();
        if entry.status() == Status::Pending {
            self.queue.remove(&entry.tenant, |queued| queued.id == entry.id);
            self.finish(entry, Status::Killed, finishing::never_ran(entry, Reason::Killed, why));
        }
    }

    /// The one place where an execution becomes terminal.
    pub(super) fn finish(&self, entry: &Entry, status: Status, finished: Finished) {
        // Counted out before a waiter can wake and look at the load.
        if !entry.finish(status, finished, || self.unfinished.send_modify(|count| *count -= 1)) {
            return;
        }
        let execution = entry.snapshot();
        let reason = execution.finished.as_ref().map_or("", |finished| finished.outcome.reason.as_str());
        info!(execution = %entry.id, status = status.as_str(), reason, "finished");
        (self.on_finish)(&execution);
        self.index().retention.add(entry.id, entry.weight(), Instant::now());
    }
}

/// Forgets finished executions by the retention rule, in the background, for as long as the service lives.
async fn sweep(inner: std::sync::Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let gone = {
            let mut index = inner.index();
            let gone = index.retention.expire(Instant::now());
            for id in &gone {
                index.entries.remove(id);
            }
            gone
        };
        forget(inner, gone).await;
    }
}

async fn forget(inner: Arc<Inner>, ids: Vec<ExecutionId>) {
    if ids.is_empty() {
        return;
    }
    let removal = tokio::task::spawn_blocking(move || {
        for id in ids {
            if let Err(error) = inner.data.remove(&id.to_string()) {
                warn!(execution = %id, %error, "its files could not be removed");
            }
        }
    });
    // A panic in there was logged by the runtime; the next start empties the folder.
    drop(removal.await);
}
