//! The warm pool: containers that are started, empty, and wait for their first frame; and, with `--reuse tenant`,
//! those that wait for the next execution of their tenant.
//!
//! Only who has what and what is wanted; [`keeper`](super::keeper) makes and removes. Nothing here asks the Engine or
//! the clock.

mod demand;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::sandbox::docker::pool::demand::Demand;

/// After so long without an execution of a kind, none of it is kept warm.
const UNUSED: Duration = Duration::from_mins(10);
/// A container that has waited so long is replaced: whatever it does not hear of, like a CA's or a clock's change, ends.
const OLD: Duration = Duration::from_hours(1);
/// A tenant's container goes when nothing of the tenant has come for so long.
const LEFT: Duration = Duration::from_mins(5);
/// Executions that one container serves.
const SERVED: u32 = 1_000;

/// How many warm containers there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// For each kind that is in use, at least this many.
    pub least: usize,
    /// For each kind, at most this many that are nobody's yet.
    pub most: usize,
    /// In all, those of tenants included. 0: there is no pool.
    pub total: usize,
}

/// Warm containers `W` of kinds `K`; a kind is what makes one container as good as another.
#[derive(Debug)]
pub(super) struct Pool<K, W> {
    limits: PoolLimits,
    shelves: HashMap<K, Shelf<W>>,
    closed: bool,
}

#[derive(Debug)]
struct Shelf<W> {
    waiting: Vec<Waiting<W>>,
    demand: Demand,
    /// Under way to this shelf.
    making: usize,
    /// Of each tenant: containers that are being emptied.
    emptying: HashMap<String, Emptying>,
    used: Instant,
    /// The last try to make one failed: not before this time again.
    not_before: Option<Instant>,
}

/// Containers of a tenant that are being emptied, and how many executions wait for one of them.
#[derive(Debug, Default)]
struct Emptying {
    containers: usize,
    awaited: usize,
}

#[derive(Debug)]
struct Waiting<W> {
    warm: W,
    life: Life,
    since: Instant,
}

/// What a container has behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// Whose it is, once it has served.
    pub(super) tenant: Option<String>,
    /// When it was started.
    pub(super) made: Instant,
    /// Executions that it has served.
    pub(super) served: u32,
}

/// What a look at the pool found.
#[derive(Debug)]
pub(super) struct Look<K, W> {
    /// To be removed.
    pub(super) gone: Vec<W>,
    /// To be made; it counts as under way until [`Pool::made`] or [`Pool::failed`].
    pub(super) wanted: Option<K>,
    /// When to look again, if nothing happens before.
    pub(super) again: Option<Instant>,
}

impl<K: Clone + Eq + Hash, W> Pool<K, W> {
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self { limits, shelves: HashMap::new(), closed: false }
    }

    /// One for this tenant: its own, else one that is nobody's yet.
    pub(super) fn take(&mut self, kind: &K, tenant: &str, now: Instant) -> Option<(W, Life)> {
        if self.limits.total == 0 {
            return None;
        }
        let shelf = self.shelves.entry(kind.clone()).or_insert_with(|| Shelf::new(now));
        shelf.used = now;
        let own = shelf.last(|life| life.tenant.as_deref() == Some(tenant));
        if own.is_none() {
            shelf.demand.count(now);
        }
        own.or_else(|| shelf.last(|life| life.tenant.is_none()))
    }

    /// One of another kind that can be made fit, and is nobody's yet.
    pub(super) fn take_similar(&mut self, fits: impl Fn(&K) -> bool) -> Option<(W, Life)> {
        let shelves = self.shelves.iter_mut().filter(|(kind, _)| fits(kind));
        shelves.map(|(_, shelf)| shelf).find_map(|shelf| shelf.last(|life| life.tenant.is_none()))
    }

    /// A container of this tenant is being emptied, until [`Pool::put`] or [`Pool::emptied`].
    pub(super) fn emptying(&mut self, kind: &K, tenant: &str) {
        if let Some(shelf) = self.shelves.get_mut(kind) {
            shelf.emptying.entry(tenant.to_owned()).or_default().containers += 1;
        }
    }

    /// That is over; it may be empty or not.
    pub(super) fn emptied(&mut self, kind: &K, tenant: &str) {
        self.change(kind, tenant, |emptying| emptying.containers = emptying.containers.saturating_sub(1));
    }

    /// Whether to wait for one that is being emptied, which takes less than to make one. Each such wait ends with
    /// [`Pool::waited`].
    pub(super) fn worth_waiting(&mut self, kind: &K, tenant: &str) -> bool {
        let emptying = self.shelves.get_mut(kind).and_then(|shelf| shelf.emptying.get_mut(tenant));
        let worth = emptying.filter(|emptying| emptying.containers > emptying.awaited);
        worth.map(|emptying| emptying.awaited += 1).is_some()
    }

    /// A wait is over.
    pub(super) fn waited(&mut self, kind: &K, tenant: &str) {
        self.change(kind, tenant, |emptying| emptying.awaited = emptying.awaited.saturating_sub(1));
    }

    /// Changes what is known of a tenant, and forgets it when that is nothing.
    fn change(&mut self, kind: &K, tenant: &str, change: impl FnOnce(&mut Emptying)) {
        let Some(shelf) = self.shelves.get_mut(kind) else { return };
        let Some(emptying) = shelf.emptying.get_mut(tenant) else { return };
        change(emptying);
        if emptying.containers + emptying.awaited == 0 {
            shelf.emptying.remove(tenant);
        }
    }

    /// One that has served and is empty again. Gives what goes in its place, which may be itself.
    pub(super) fn put(&mut self, kind: &K, warm: W, life: Life, now: Instant) -> Option<W> {
        let full = self.waiting() >= self.limits.total;
        if let Some(tenant) = &life.tenant {
            self.emptied(kind, tenant);
        }
        let Some(shelf) = self.shelves.get_mut(kind).filter(|_| !self.closed && life.served < SERVED) else {
            return Some(warm);
        };
        shelf.waiting.push(Waiting { warm, life, since: now });
        if full { self.longest_left() } else { None }
    }

    /// What was wanted is there. Given back where it is not wanted any more.
    pub(super) fn made(&mut self, kind: &K, warm: W, now: Instant) -> Result<(), W> {
        let life = Life { tenant: None, made: now, served: 0 };
        match self.shelves.get_mut(kind).filter(|_| !self.closed) {
            Some(shelf) => {
                shelf.making = shelf.making.saturating_sub(1);
                shelf.not_before = None;
                shelf.waiting.push(Waiting { warm, life, since: now });
                Ok(())
            }
            None => Err(warm),
        }
    }

    /// What was wanted could not be made.
    pub(super) fn failed(&mut self, kind: &K, not_before: Instant) {
        if let Some(shelf) = self.shelves.get_mut(kind) {
            shelf.making = shelf.making.saturating_sub(1);
            shelf.not_before = Some(not_before);
        }
    }

    /// Nothing of these kinds is wanted any more.
    pub(super) fn drop_kinds(&mut self, gone: impl Fn(&K) -> bool) -> Vec<W> {
        let kinds: Vec<K> = self.shelves.keys().filter(|kind| gone(kind)).cloned().collect();
        let shelves = kinds.iter().filter_map(|kind| self.shelves.remove(kind));
        shelves.flat_map(|shelf| shelf.waiting).map(|waiting| waiting.warm).collect()
    }

    /// Everything goes, and nothing is kept from now on.
    pub(super) fn close(&mut self) -> Vec<W> {
        self.closed = true;
        self.drop_kinds(|_| true)
    }

    fn waiting(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.waiting.len()).sum()
    }

    /// What has waited too long, and what is wanted.
    pub(super) fn look(&mut self, now: Instant) -> Look<K, W> {
        let mut gone = self.too_old(now);
        let wanted = self.wanted(now);
        if let Some(kind) = &wanted {
            if self.under_way() + self.waiting() >= self.limits.total {
                gone.extend(self.least_recent(kind));
            }
            if let Some(shelf) = self.shelves.get_mut(kind) {
                shelf.making += 1;
            }
        }
        let again = self.shelves.values().flat_map(Shelf::changes).filter(|at| *at > now).min();
        Look { gone, wanted, again }
    }

    fn under_way(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.making).sum()
    }

    fn too_old(&mut self, now: Instant) -> Vec<W> {
        self.shelves
            .retain(|_, shelf| now < shelf.used + UNUSED || !shelf.waiting.is_empty() || shelf.making > 0);
        let mut gone = Vec::new();
        for shelf in self.shelves.values_mut() {
            let unused = now >= shelf.used + UNUSED;
            let (old, kept) =
                std::mem::take(&mut shelf.waiting).into_iter().partition(|it| unused || now >= it.ends());
            shelf.waiting = kept;
            gone.extend(Vec::into_iter(old).map(|it: Waiting<W>| it.warm));
        }
        gone
    }

    /// The kind that was used last of those that lack one and can have it.
    fn wanted(&self, now: Instant) -> Option<K> {
        if self.closed {
            return None;
        }
        let lacking = self.shelves.iter().filter(|(_, shelf)| shelf.lacks(&self.limits, now));
        let (kind, shelf) = lacking.max_by_key(|(_, shelf)| shelf.used)?;
        let full = self.under_way() + self.waiting() >= self.limits.total;
        let others = || self.shelves.values().any(|it| it.used < shelf.used && !it.waiting.is_empty());
        (!full || others()).then(|| kind.clone())
    }

    /// One of the kind that was used longest ago, to make room.
    fn least_recent(&mut self, but: &K) -> Option<W> {
        let others =
            self.shelves.iter_mut().filter(|(kind, shelf)| *kind != but && !shelf.waiting.is_empty());
        let (_, shelf) = others.min_by_key(|(_, shelf)| shelf.used)?;
        Some(shelf.waiting.remove(0).warm)
    }

    /// The tenant's container that nothing has come for longest.
    fn longest_left(&mut self) -> Option<W> {
        let all = self.shelves.iter().flat_map(|(kind, shelf)| {
            shelf.waiting.iter().enumerate().map(move |(at, waiting)| (kind, at, waiting))
        });
        let of_tenants = all.filter(|(.., waiting)| waiting.life.tenant.is_some());
        let (kind, at, _) = of_tenants.min_by_key(|(.., waiting)| waiting.since)?;
        let kind = kind.clone();
        Some(self.shelves.get_mut(&kind)?.waiting.remove(at).warm)
    }
}

impl<W> Shelf<W> {
    fn new(now: Instant) -> Self {
        Self {
            waiting: Vec::new(),
            demand: Demand::default(),
            making: 0,
            emptying: HashMap::new(),
            used: now,
            not_before: None,
        }
    }

    /// The one that came last: its memory is the warmest.
    fn last(&mut self, fits: impl Fn(&Life) -> bool) -> Option<(W, Life)> {
        let at = self.waiting.iter().rposition(|waiting| fits(&waiting.life))?;
        let waiting = self.waiting.remove(at);
        Some((waiting.warm, waiting.life))
    }

    fn lacks(&self, limits: &PoolLimits, now: Instant) -> bool {
        let nobodys = self.waiting.iter().filter(|waiting| waiting.life.tenant.is_none()).count();
        let target = self.demand.peak(now).clamp(limits.least.min(limits.most), limits.most);
        let may = self.not_before.is_none_or(|time| now >= time) && now < self.used + UNUSED;
        may && nobodys + self.making < target
    }

    /// When something of it changes by itself.
    fn changes(&self) -> impl Iterator<Item = Instant> {
        let ends = self.waiting.iter().map(Waiting::ends);
        ends.chain(self.not_before).chain([self.used + UNUSED])
    }
}

impl<W> Waiting<W> {
    fn ends(&self) -> Instant {
        let old = self.life.made + OLD;
        if self.life.tenant.is_some() { old.min(self.since + LEFT) } else { old }
    }
}
