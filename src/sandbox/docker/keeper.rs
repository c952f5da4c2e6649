//! Keeps the [`Pool`]: makes what is wanted, one container at a time so that running programs keep their share of the
//! machine, removes what has waited too long, and empties what has served.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::runtime::Runtime;
use crate::sandbox::docker::Inner;
use crate::sandbox::docker::container::Container;
use crate::sandbox::docker::engine::EngineError;
use crate::sandbox::docker::image::Image;
use crate::sandbox::docker::pool::{Life, Look, Pool, PoolLimits};
use crate::sandbox::docker::profile::Class;
use crate::sandbox::docker::reuse::Reuse;
use crate::sandbox::docker::session::{Conversation, Ending};
use crate::sandbox::docker::streams::Streams;
use crate::sandbox::{Job, SandboxError};

/// Before a container is made again after a failure.
const MAKE_AGAIN: Duration = Duration::from_secs(5);
/// What a runner gets to take away what an execution left.
const SETTLE: Duration = Duration::from_secs(5);
/// What is waited for one that is being emptied: about what it takes to make one.
const EMPTIED: Duration = Duration::from_millis(100);

/// A container whose runner has said that it is ready.
pub(super) struct Warm {
    pub(super) container: Container,
    pub(super) streams: Streams,
}

/// What makes one container as good as another.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) runtime: Arc<Runtime>,
    /// Name of the caller's own image, where that is the image.
    pub(super) own_image: Option<Arc<str>>,
    pub(super) image: Image,
    pub(super) class: Class,
    /// The volume with packages that is mounted.
    pub(super) dependencies: Option<Arc<str>>,
}

impl Kind {
    /// Whether a container of this kind becomes one of the other by a change of limits.
    fn can_become(&self, other: &Self) -> bool {
        self.class.can_become(&other.class) && self.is_alike(other)
    }

    /// But for the class: a runtime's own folders are part of the profile.
    fn is_alike(&self, other: &Self) -> bool {
        self.image.id == other.image.id
            && self.runtime.writable == other.runtime.writable
            && self.dependencies == other.dependencies
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.class == other.class && self.is_alike(other)
    }
}

impl Eq for Kind {}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.image.id, &self.class, &self.dependencies).hash(state);
    }
}

/// A container for one attempt.
pub(super) struct Taken {
    pub(super) warm: Warm,
    pub(super) kind: Kind,
    pub(super) life: Life,
    /// It was there already: it may be dead.
    pub(super) waited: bool,
}

/// Why a container could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl From<MakeError> for SandboxError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Engine(error) => error.into(),
            MakeError::Sandbox(error) => error,
        }
    }
}

/// The pool, and what wakes its keeper.
pub(super) struct Keeper {
    pool: Mutex<Pool<Kind, Warm>>,
    changed: Notify,
    /// A container has been emptied, or could not be.
    emptied: Notify,
    closing: CancellationToken,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self {
            pool: Mutex::new(Pool::new(limits)),
            changed: Notify::new(),
            emptied: Notify::new(),
            closing: CancellationToken::new(),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool<Kind, Warm>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the sandbox closes.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// All that waits goes, and nothing is made any more.
    pub(super) fn close(&self) {
        self.closing.cancel();
        let gone = self.pool().close();
        drop(gone);
    }
}

/// Starts the keeper, which ends with the sandbox.
pub(super) fn start(inner: &Arc<Inner>) {
    let keeper = Arc::clone(&inner.keeper);
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move { keeper.closing.run_until_cancelled(keep(&keeper, inner)).await });
}

async fn keep(keeper: &Keeper, inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        inner.engine.circuit.closed().await;
        let Look { gone, wanted, again } = keeper.pool().look(Instant::now());
        drop(gone);
        if let Some(kind) = wanted {
            inner.make_warm(kind).await;
            continue;
        }
        // It is nobody's reason to live.
        drop(inner);
        tokio::select! {
            () = keeper.changed.notified() => {}
            () = tokio::time::sleep_until(again.unwrap_or_else(far)) => {}
        }
    }
}

/// Nothing is due: a day from now is as good as any time.
fn far() -> Instant {
    Instant::now() + Duration::from_hours(24)
}

impl Inner {
    /// How containers are used from now on.
    pub(super) fn reuse(&self) -> Reuse {
        if self.rooms.load(Ordering::SeqCst) { Reuse::Tenant } else { Reuse::Never }
    }

    /// No container with this volume waits any more.
    pub(super) fn drop_warm_with(&self, volume: &str) {
        let gone = self.keeper.pool().drop_kinds(|kind| kind.dependencies.as_deref() == Some(volume));
        drop(gone);
    }

    async fn make_warm(self: &Arc<Self>, kind: Kind) {
        match self.make_as_it_is(&kind).await {
            Ok(warm) => drop(self.keeper.pool().made(&kind, warm, Instant::now())),
            // Somebody removed its image, which whoever needs it builds again.
            Err(MakeError::Engine(EngineError::NotFound { .. })) => {
                self.images.forget(&kind.runtime);
                drop(self.keeper.pool().drop_kinds(|old| *old == kind));
            }
            Err(error) => {
                warn!(%error, runtime = %kind.runtime.name, "a warm container could not be made");
                self.keeper.pool().failed(&kind, Instant::now() + MAKE_AGAIN);
            }
        }
    }

    /// A warm container that lives, as far as its streams say.
    pub(super) async fn take_warm(&self, kind: &Kind, tenant: &str) -> Option<(Warm, Life)> {
        loop {
            let Some((mut warm, life, fits)) = self.pick(kind, tenant) else {
                if self.one_is_emptied(kind, tenant).await {
                    continue;
                }
                return None;
            };
            if !warm.streams.is_waiting() {
                debug!("a warm container was gone");
                continue;
            }
            if fits {
                return Some((warm, life));
            }
            match warm.container.change_limits(&kind.class).await {
                Ok(()) => return Some((warm, life)),
                Err(error) => debug!(%error, "a warm container can't be changed"),
            }
        }
    }

    /// Waits for one of this tenant's that is being emptied. False where there is none, or it takes too long.
    async fn one_is_emptied(&self, kind: &Kind, tenant: &str) -> bool {
        // From now on it is heard of.
        let emptied = self.keeper.emptied.notified();
        if !self.keeper.pool().worth_waiting(kind, tenant) {
            return false;
        }
        // Counted out also when the wait is given up.
        let _waiting = Wait { keeper: &self.keeper, kind, tenant };
        tokio::time::timeout(EMPTIED, emptied).await.is_ok()
    }

    /// One of the kind; else one that becomes so by a change of its limits.
    fn pick(&self, kind: &Kind, tenant: &str) -> Option<(Warm, Life, bool)> {
        let mut pool = self.keeper.pool();
        let exact = pool.take(kind, tenant, Instant::now()).map(|(warm, life)| (warm, life, true));
        let similar = |other: &Kind| other.can_become(kind);
        let picked = exact.or_else(|| pool.take_similar(similar).map(|(warm, life)| (warm, life, false)));
        // An image that was built again leaves containers of the old one behind.
        let stale = pool.drop_kinds(|old| old.image.name == kind.image.name && old.image.id != kind.image.id);
        drop(pool);
        drop(stale);
        self.keeper.changed.notify_one();
        picked
    }

    /// After an execution: a container that serves several is emptied, off the caller's path, and waits for its
    /// tenant's next. All others go.
    pub(super) fn put_back(
        self: &Arc<Self>,
        mut warm: Warm,
        kind: Kind,
        life: Life,
        job: &Job,
        conversation: &Conversation,
    ) {
        let hides = |ending: &Ending| matches!(ending, Ending::Report(end) if end.memory_peak_hides);
        if kind.class.reuse == Reuse::Never || !conversation.whole || hides(&conversation.ending) {
            return;
        }
        let (inner, tenant) = (Arc::clone(self), job.spec.tenant.to_string());
        let life = Life { tenant: Some(tenant.clone()), served: life.served + 1, ..life };
        self.keeper.pool().emptying(&kind, &tenant);
        self.removals.spawn(async move {
            let settled = warm.streams.settle(SETTLE).await;
            let mut pool = inner.keeper.pool();
            let gone = match settled {
                Ok(()) => pool.put(&kind, warm, life, Instant::now()),
                Err(error) => {
                    warn!(%error, "a container is not used again");
                    pool.emptied(&kind, &tenant);
                    Some(warm)
                }
            };
            drop(pool);
            drop(gone);
            inner.keeper.emptied.notify_waiters();
            inner.keeper.changed.notify_one();
        });
    }
}

/// An execution that waits for a container.
struct Wait<'a> {
    keeper: &'a Keeper,
    kind: &'a Kind,
    tenant: &'a str,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.keeper.pool().waited(self.kind, self.tenant);
    }
}
