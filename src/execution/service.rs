//! The service that owns executions: submit, get, wait, cancel, purge. Sync and async callers use the same path; an
//! execution belongs to a worker here, never to a request.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::execution::backlog::{Backlog, BacklogLimits, Overfull};
use crate::execution::entry::{Entry, Waited};
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::idempotency::IdempotencyKey;
use crate::execution::live::{Follower, Live};
use crate::execution::queue::{Full, Queue, QueueLimits};
use crate::execution::spec::ExecutionSpec;
use crate::execution::state::{Execution, Finished, Status};
use crate::execution::{accepting, finishing, record, recovery, worker};
use crate::limits::MIB;
use crate::runtime::Catalogue;
use crate::sandbox::{Reason, Sandbox};
use crate::store::{Accepted, ContentHash, Hold, RetentionPolicy, Store, StoreError};

/// Sizes of the service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceConfig {
    /// Executions that run at once.
    pub workers: u16,
    /// Executions that may wait.
    pub queue_length: usize,
    /// How many of them may be one tenant's.
    pub tenant_queue_length: usize,
    /// How many of those that run at once may be one tenant's, to begin with.
    pub tenant_concurrency: usize,
    /// Bytes of projects and standard input that executions may hold which have not ended.
    pub backlog_bytes: u64,
    /// How many of these bytes may be one tenant's.
    pub tenant_backlog_bytes: u64,
    /// Bytes that must be free on the disk of the data folder for new work to be taken.
    pub data_reserve_bytes: u64,
    /// How long finished ones are kept, and how many.
    pub retention: RetentionPolicy,
}

/// Why a spec was not accepted. Nothing of it is left.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// Accepted executions hold too many bytes; try again after this long.
    #[error("{whose} hold too many bytes of projects and input; at most {most_mb} MiB may be held")]
    BacklogFull {
        /// `the executions of all callers` or `your executions`.
        whose: &'static str,
        /// How many may be held, in MiB.
        most_mb: u64,
        /// A guess at when there is room.
        retry_after: Duration,
    },
    /// The disk of the data folder is low.
    #[error(
        "the disk of the data folder has {free_mb} MiB left, and {reserve_mb} MiB must stay free (--data-reserve-mb)"
    )]
    DiskLow {
        /// What is left, in MiB.
        free_mb: u64,
        /// What must stay free, in MiB.
        reserve_mb: u64,
    },
    /// The idempotency key names another request of this tenant.
    #[error("this Idempotency-Key was used with another request; use a fresh key for a new request")]
    KeyReused,
    /// The server is shutting down.
    #[error("the server is shutting down and takes no new executions")]
    Draining,
    /// It could not be kept, so it was not accepted.
    #[error("the execution could not be stored: {0}")]
    Storage(#[from] StoreError),
}

/// Why a result can't be given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Its record can't be read.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// It ran, and the store does not take the result for now. It can be read later.
    #[error("the execution ended, and its result could not be stored yet")]
    Unrecorded,
}

/// Whether the caller waits for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does: when the server dies, the execution is nobody's any more.
    Sync,
    /// It gets an id at once: the execution outlives the server.
    Async,
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
    pub(super) store: Store,
    pub(super) queue: Queue<Arc<Entry>>,
    pub(super) backlog: Arc<Backlog>,
    config: ServiceConfig,
    /// What has not finished. The rest is in the store.
    entries: Mutex<HashMap<ExecutionId, Arc<Entry>>>,
    /// Whose executions finished since retention was last looked after.
    pub(super) finishers: Mutex<HashSet<Tenant>>,
    /// Accepted and not yet terminal; the drain waits for zero.
    pub(super) unfinished: watch::Sender<usize>,
    draining: AtomicBool,
    /// The time of the drain is over.
    pub(super) closing: CancellationToken,
    pub(super) on_finish: FinishHook,
    /// Executions outlive the requests that bring them, and the threads that serve those.
    runtime: Handle,
}

/// Told of each execution that finished, for metrics.
pub type FinishHook = Box<dyn Fn(&Execution) + Send + Sync>;

/// How often executions that are too old or too many are looked for.
const SWEEP: Duration = Duration::from_secs(2);
/// What is guessed for one execution in the queue when a caller is told when to come again.
const GUESS_PER_EXECUTION: Duration = Duration::from_millis(250);

/// What was accepted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Its name.
    pub id: ExecutionId,
    live: Option<Arc<Live>>,
}

impl Submitted {
    /// Whether this call made the execution; false where an earlier one did, under the same key.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.live.is_some()
    }

    /// Its output as it comes, from the beginning; `None` when it was accepted before, under the same key.
    #[must_use]
    pub fn follow(&self) -> Option<Follower> {
        self.live.as_ref().map(|live| live.follow())
    }
}

impl Service {
    /// Takes up what an earlier server left, and starts the workers on the current tokio runtime.
    ///
    /// # Errors
    /// The store can't be used, or holds a record that is damaged.
    pub async fn start(
        config: ServiceConfig,
        sandbox: Arc<dyn Sandbox>,
        store: Store,
        catalogue: &Catalogue,
        on_finish: FinishHook,
    ) -> Result<Self, StoreError> {
        let inner = Arc::new(Inner {
            sandbox,
            store,
            queue: Queue::new(QueueLimits {
                length: config.queue_length,
                share: config.tenant_queue_length,
                concurrency: config.tenant_concurrency,
            }),
            backlog: Backlog::new(BacklogLimits {
                total: config.backlog_bytes,
                share: config.tenant_backlog_bytes,
            }),
            config,
            entries: Mutex::default(),
            finishers: Mutex::default(),
            unfinished: watch::Sender::new(0),
            draining: AtomicBool::new(false),
            closing: CancellationToken::new(),
            on_finish,
            runtime: Handle::current(),
        });
        recovery::take_up(&inner, catalogue).await?;
        for _ in 0..config.workers {
            tokio::spawn(worker::work(Arc::clone(&inner)));
        }
        tokio::spawn(sweep(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// How many executions of one tenant may run at once, at least one. Those that run already are not touched.
    pub fn set_tenant_concurrency(&self, concurrency: usize) {
        self.0.queue.set_concurrency(concurrency);
    }

    /// How many executions of one tenant may run at once.
    #[must_use]
    pub fn tenant_concurrency(&self) -> usize {
        self.0.queue.concurrency()
    }

    /// Accepts a spec, or refuses it at once. An [`Mode::Async`] one is on the disk when this returns. Under an
    /// idempotency key the same request gives the execution that it gave before; one that is forgotten is not run again.
    ///
    /// # Errors
    /// The queue is full, the server is draining, the key names another request, or the store fails. Nothing of it is
    /// left then.
    pub async fn submit(
        &self,
        spec: ExecutionSpec,
        mode: Mode,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> {
        let inner = Arc::clone(&self.0);
        // Not in the request's own future, which ends when its caller hangs up: it is accepted wholly or not at all.
        let accepting = self.0.runtime.spawn(async move { inner.submit(spec, mode, key).await });
        accepting.await.map_err(|error| StoreError::from(std::io::Error::other(error)))?
    }

    /// What is known of an execution of this tenant; `None` for another's, as for one that never was.
    ///
    /// # Errors
    /// Its record can't be read.
    pub async fn get(&self, tenant: &Tenant, id: ExecutionId) -> Result<Option<Execution>, StoreError> {
        match self.0.find(tenant, id) {
            Some(entry) => Ok(Some(entry.snapshot(self.spool_dir()).await?)),
            None => self.0.recorded(tenant, id).await,
        }
    }

    /// Waits until it is terminal, at most this long (`None`: as long as it takes), and gives what is known then.
    ///
    /// # Errors
    /// Its record can't be read, or its end can't be recorded.
    pub async fn wait(
        &self,
        tenant: &Tenant,
        id: ExecutionId,
        at_most: Option<Duration>,
    ) -> Result<Option<Execution>, ReadError> {
        let Some(entry) = self.0.find(tenant, id) else { return Ok(self.0.recorded(tenant, id).await?) };
        match entry.wait(at_most).await {
            Waited::Enough => Ok(Some(entry.snapshot(self.spool_dir()).await.map_err(StoreError::from)?)),
            Waited::Unrecorded => Err(ReadError::Unrecorded),
        }
    }

    /// Kills it and waits until it is terminal. One that is finished already stays as it is.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn cancel(&self, tenant: &Tenant, id: ExecutionId) -> Result<Option<Status>, ReadError> {
        if let Some(entry) = self.0.find(tenant, id) {
            let inner = Arc::clone(&self.0);
            self.0.runtime.spawn(async move { inner.cancel(&entry, "it was killed on request").await });
        }
        Ok(self.wait(tenant, id, None).await?.map(|execution| execution.status))
    }

    /// Kills it, and forgets its record and files.
    ///
    /// # Errors
    /// As [`Self::wait`], or it can't be forgotten.
    pub async fn purge(&self, tenant: &Tenant, id: ExecutionId) -> Result<Option<Status>, ReadError> {
        let status = self.cancel(tenant, id).await?;
        if status.is_some() {
            self.0.store.purge(tenant.to_string(), id.into()).await?;
        }
        Ok(status)
    }

    /// Keeps the artifacts of a finished execution where they are until the hold is dropped, also when it is purged.
    /// `None`: they are gone already, or some of them.
    ///
    /// # Errors
    /// The files can't be looked at, or are not what was written.
    pub async fn hold_artifacts(&self, finished: &Finished) -> Result<Option<Hold>, StoreError> {
        let files = finished
            .artifacts
            .iter()
            .map(|artifact| ContentHash::from_hex(&artifact.sha256).map(|hash| (hash, artifact.size)));
        let Some(files) = files.collect() else { return Ok(None) };
        self.0.store.hold(files).await
    }

    /// How many executions are where.
    #[must_use]
    pub fn load(&self) -> Load {
        let queued = self.0.queue.len();
        let unfinished = *self.0.unfinished.borrow();
        Load { queued, running: unfinished.saturating_sub(queued), kept: self.0.store.kept() }
    }

    /// Where executions run.
    #[must_use]
    pub fn sandbox(&self) -> &dyn Sandbox {
        &*self.0.sandbox
    }

    /// Whether the disk of the data folder has room for new work. Callers ask before they read a body.
    ///
    /// # Errors
    /// The disk is low, or can't be looked at.
    pub fn check_disk(&self) -> Result<(), SubmitError> {
        self.0.check_disk()
    }

    /// Where uploads are spooled.
    #[must_use]
    pub fn spool_dir(&self) -> std::path::PathBuf {
        self.0.store.data().spool()
    }

    /// No new work is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// Takes no new work, gives what runs this long to finish, and closes the sandbox. What nobody waits for is left to
    /// the next server: at once what has not begun, after this time what still runs. The rest is killed.
    pub async fn drain(&self, grace: Duration) {
        let inner = &self.0;
        inner.draining.store(true, Ordering::SeqCst);
        for entry in inner.all() {
            if entry.detached && inner.take_from_queue(&entry) {
                inner.let_go(&entry);
            }
        }
        let mut unfinished = inner.unfinished.subscribe();
        if tokio::time::timeout(grace, unfinished.wait_for(|count| *count == 0)).await.is_err() {
            inner.closing.cancel();
            for entry in inner.all() {
                if entry.detached {
                    entry.leave();
                }
                inner.cancel(&entry, "the server was shut down before it finished").await;
            }
            drop(unfinished.wait_for(|count| *count == 0).await);
        }
        inner.queue.close();
        inner.sandbox.close().await;
    }
}

impl Inner {
    async fn submit(
        self: Arc<Self>,
        spec: ExecutionSpec,
        mode: Mode,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, SubmitError> {
        if self.is_draining() {
            return Err(SubmitError::Draining);
        }
        let tenant = spec.tenant.clone();
        if let Some(key) = &key {
            // Also while there is no room for another.
            let now = Timestamp::now().as_millisecond();
            let known = self.store.look_up_key(tenant.to_string(), key.key.clone(), key.request, now).await?;
            if let Some(known) = known {
                return accepted_before(known);
            }
        }
        self.check_disk()?;
        let permit = self.backlog.try_take(&tenant, spec.held_bytes());
        let permit = permit.map_err(|overfull| self.too_much(overfull))?;
        self.queue.reserve(&tenant).map_err(|full| self.no_room(full))?;
        let prepared = accepting::prepare(&self.store, spec, mode, key).await;
        let (entry, acceptance) = prepared.inspect_err(|_| self.queue.release(&tenant))?;
        entry.count(permit);
        let entry = Arc::new(entry);
        // Known before it is durable: the same request may come again as soon as it is.
        self.add(&entry);
        match self.store.accept(acceptance).await {
            Ok(Accepted::New) => {}
            other => {
                self.queue.release(&tenant);
                self.remove(&entry);
                return accepted_before(other?);
            }
        }
        let submitted = Submitted { id: entry.id, live: Some(Arc::clone(&entry.live)) };
        info!(execution = %entry.id, "accepted");
        if let Err(entry) = self.queue.push(&tenant, entry.share.clone(), entry) {
            self.end_unstarted(&entry, "the server was shut down before it began").await;
        }
        Ok(submitted)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ExecutionId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.entries().values().cloned().collect()
    }

    pub(super) fn add(&self, entry: &Arc<Entry>) {
        self.entries().insert(entry.id, Arc::clone(entry));
        self.unfinished.send_modify(|count| *count += 1);
    }

    /// It is not this server's any more.
    fn remove(&self, entry: &Entry) {
        if self.forget(entry.id) {
            self.unfinished.send_modify(|count| *count -= 1);
        }
    }

    /// The store has it.
    pub(super) fn forget(&self, id: ExecutionId) -> bool {
        self.entries().remove(&id).is_some()
    }

    fn find(&self, tenant: &Tenant, id: ExecutionId) -> Option<Arc<Entry>> {
        self.entries().get(&id).filter(|entry| entry.tenant == *tenant).cloned()
    }

    async fn recorded(&self, tenant: &Tenant, id: ExecutionId) -> Result<Option<Execution>, StoreError> {
        let find = || self.store.find(tenant.to_string(), id.into());
        let Some(kept) = find().await? else { return Ok(None) };
        match record::read(&self.store, id, tenant, kept).await {
            // It was purged between the look at its record and the one at its file.
            Err(_) if find().await?.is_none() => Ok(None),
            read => read.map(Some),
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
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

    fn check_disk(&self) -> Result<(), SubmitError> {
        let free = self.store.free_bytes().map_err(StoreError::from)?;
        let reserve = self.config.data_reserve_bytes;
        if free >= reserve {
            return Ok(());
        }
        Err(SubmitError::DiskLow { free_mb: free / MIB, reserve_mb: reserve / MIB })
    }

    fn too_much(&self, overfull: Overfull) -> SubmitError {
        let (whose, most) = match overfull {
            Overfull::Total => ("the executions of all callers", self.config.backlog_bytes),
            Overfull::Share => ("your executions", self.config.tenant_backlog_bytes),
        };
        SubmitError::BacklogFull { whose, most_mb: most / MIB, retry_after: SWEEP }
    }

    fn take_from_queue(&self, entry: &Entry) -> bool {
        self.queue.remove(&entry.tenant, |queued| queued.id == entry.id).is_some()
    }

    /// Kills a running one; one that waits ends here and now.
    async fn cancel(&self, entry: &Arc<Entry>, why: &str) {
        entry.cancel.cancel();
        if self.take_from_queue(entry) {
            self.end_unstarted(entry, why).await;
        }
    }

    /// It never began, and nobody else has it.
    pub(super) async fn end_unstarted(&self, entry: &Entry, why: &str) {
        if entry.detached && (entry.is_left() || self.closing.is_cancelled()) {
            self.let_go(entry);
        } else {
            self.finish(entry, Status::Killed, finishing::never_ran(entry, Reason::Killed, why)).await;
        }
    }

    /// The next server finishes it.
    pub(super) fn let_go(&self, entry: &Entry) {
        entry.let_go();
        info!(execution = %entry.id, "left to the next server");
        self.remove(entry);
    }
}

fn accepted_before(known: Accepted) -> Result<Submitted, SubmitError> {
    match known {
        Accepted::Known(id) => Ok(Submitted { id: id.into(), live: None }),
        Accepted::New | Accepted::KeyReused => Err(SubmitError::KeyReused),
    }
}

/// Forgets finished executions by the retention rule, in the background, for as long as the service lives; first of all
/// the files that a crash left without a record.
async fn sweep(inner: std::sync::Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP);
    let mut first = true;
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let finishers = std::mem::take(&mut *inner.finishers.lock().unwrap_or_else(PoisonError::into_inner));
        let tenants = finishers.into_iter().map(|tenant| tenant.to_string()).collect();
        let now = Timestamp::now().as_millisecond();
        let swept = async {
            if std::mem::take(&mut first) {
                inner.store.collect_all().await?;
            }
            inner.store.expire(inner.config.retention, tenants, now).await?;
            inner.store.keep_reserve().await
        };
        if let Err(error) = swept.await {
            warn!(%error, "old executions could not be removed; this is tried again");
        }
    }
}
