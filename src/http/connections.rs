//! The connections that are open. When there are almost too many, the ones that have been idle longest make room: who
//! opens thousands and sends nothing keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;

use crate::telemetry::{Cut, Metrics};

/// All connections of a server, whatever the number of its threads.
pub(super) struct Connections {
    /// With more than this many open, the longest idle one is closed for each new one.
    crowded: usize,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    count: usize,
    /// Those between two requests, by when that began.
    idle: BTreeMap<u64, Arc<Connection>>,
    next: u64,
}

/// One connection.
pub(super) struct Connection {
    all: Arc<Connections>,
    /// A request is read, worked on or answered. Changed under the lock of `all`.
    busy: AtomicBool,
    /// Key in `idle`. Used under the lock of `all`.
    since: AtomicU64,
    /// Changed under the lock of `all`.
    closed: AtomicBool,
    /// It has to make room.
    evicted: AtomicBool,
    /// A body is read no faster than it is asked for.
    on_demand: AtomicBool,
    /// Bytes of it that are asked for.
    wanted: AtomicUsize,
    waker: AtomicWaker,
}

/// A body that is read on demand, until this is dropped. Left alone the framework reads 40 KiB ahead of whoever takes
/// them, of each connection, also while nobody does.
pub(super) struct OnDemand(Arc<Connection>);

/// A request on a connection, until the last byte of its answer was handed over.
pub(super) struct Busy(Arc<Connection>);

impl Connections {
    /// `most` connections fit.
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { crowded: most - most / 8, open: Mutex::default(), metrics })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, idle until its first request.
    pub(super) fn add(self: &Arc<Self>) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            all: Arc::clone(self),
            busy: true.into(),
            since: 0.into(),
            closed: false.into(),
            evicted: false.into(),
            on_demand: false.into(),
            wanted: 0.into(),
            waker: AtomicWaker::new(),
        });
        let open = &mut *self.open();
        open.count += 1;
        if open.count > self.crowded
            && let Some((_, longest)) = open.idle.pop_first()
        {
            longest.evicted.store(true, Ordering::Release);
            longest.waker.wake();
        }
        open.rest(&connection);
        self.metrics.connections(open.count);
        connection
    }
}

impl Open {
    fn rest(&mut self, connection: &Arc<Connection>) {
        self.next += 1;
        connection.since.store(self.next, Ordering::Relaxed);
        connection.busy.store(false, Ordering::Release);
        self.idle.insert(self.next, Arc::clone(connection));
    }
}

impl Connection {
    /// A request begins. It is not cut off even if room was to be made just now.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let open = &mut *self.all.open();
        open.idle.remove(&self.since.load(Ordering::Relaxed));
        self.busy.store(true, Ordering::Release);
        self.evicted.store(false, Ordering::Release);
        Busy(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// It has to make room for another.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// The rest of the body stays with the kernel until it is asked for.
    pub(super) fn on_demand(self: &Arc<Self>) -> OnDemand {
        self.wanted.store(0, Ordering::Release);
        self.on_demand.store(true, Ordering::Release);
        OnDemand(Arc::clone(self))
    }

    /// Nothing is to be read for now.
    pub(super) fn is_paused(&self) -> bool {
        self.on_demand.load(Ordering::Acquire) && self.wanted.load(Ordering::Acquire) == 0
    }

    /// So much was read. Whether that is all for now, so that what reads it gets its turn.
    pub(super) fn has_read(&self, bytes: usize) -> bool {
        let wanted = self.wanted.load(Ordering::Acquire).saturating_sub(bytes);
        self.wanted.store(wanted, Ordering::Release);
        wanted == 0
    }

    /// Who looks at it when something has changed.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// It is closed before its time.
    pub(super) fn cut(&self, why: Cut) {
        self.all.metrics.cut(why);
    }

    /// It is closed. Called once.
    pub(super) fn remove(&self) {
        let open = &mut *self.all.open();
        self.closed.store(true, Ordering::Release);
        open.idle.remove(&self.since.load(Ordering::Relaxed));
        open.count -= 1;
        self.all.metrics.connections(open.count);
    }
}

impl OnDemand {
    /// Asks for more of the body: at least one byte, and about so many.
    pub(super) fn want(&self, bytes: usize) {
        // Woken once: whoever reads is the one who asks, and would go round for ever.
        if self.0.wanted.swap(bytes, Ordering::AcqRel) == 0 {
            self.0.waker.wake();
        }
    }
}

impl Drop for OnDemand {
    fn drop(&mut self) {
        self.0.on_demand.store(false, Ordering::Release);
        self.0.waker.wake();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(connection) = self;
        {
            let open = &mut *connection.all.open();
            if connection.closed.load(Ordering::Acquire) {
                return;
            }
            open.rest(connection);
        }
        // So that the time it may be idle begins now, whatever was read ahead.
        connection.waker.wake();
    }
}
