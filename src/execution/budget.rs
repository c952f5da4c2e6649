//! A budget of something that the whole server shares: bytes of memory for requests, uploads at once. Who takes of it
//! holds a value that gives it back when it is dropped.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::execution::id::Tenant;

/// While several tenants have keys, one may hold this many times what it leaves over. Alone it gets three quarters; of n
/// that want everything each gets 3 in 3n + 1, and a newcomer always finds something.
const SHARE: usize = 3;

/// What an amount is held for. What lasts long has a ceiling, so that it never keeps out what is quickly over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A request that is still being sent, as slowly as its caller likes: at most half of the budget.
    Incoming,
    /// A request that is complete and is being read and accepted: all that is free.
    Reading,
    /// An execution that waits or runs: at most a quarter of the budget.
    Waiting,
}

impl Use {
    fn ceiling(self, total: usize) -> usize {
        match self {
            Self::Incoming => total / 2,
            Self::Reading => total,
            Self::Waiting => total / 4,
        }
    }

    /// Place of its sum in [`State::uses`].
    fn place(self) -> usize {
        match self {
            Self::Incoming => 0,
            Self::Reading => 1,
            Self::Waiting => 2,
        }
    }
}

/// A budget. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    total: usize,
    state: Mutex<State>,
    /// Something was given back.
    freed: Notify,
    watch: Box<dyn Fn(usize) + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    /// Sums of what is held, one for each [`Use`].
    uses: [usize; 3],
    /// The same for each tenant that holds something.
    tenants: HashMap<Tenant, usize>,
    /// Several tenants have keys.
    shared: bool,
}

impl State {
    fn held(&self) -> usize {
        self.uses.iter().sum()
    }

    /// Whether a tenant may have so much more for this.
    fn fits(&self, total: usize, tenant: &Tenant, more: usize, what: Use) -> bool {
        let free = total.saturating_sub(self.held());
        if more > free || self.uses[what.place()] + more > what.ceiling(total) {
            return false;
        }
        let own = self.tenants.get(tenant).copied().unwrap_or(0);
        !self.shared || own == 0 || own + more <= SHARE * (free - more)
    }

    fn add(&mut self, tenant: &Tenant, more: usize, what: Use) {
        if more > 0 {
            self.uses[what.place()] += more;
            *self.tenants.entry(tenant.clone()).or_default() += more;
        }
    }

    fn subtract(&mut self, tenant: &Tenant, less: usize, what: Use) {
        let sum = &mut self.uses[what.place()];
        *sum = sum.saturating_sub(less);
        if let Some(own) = self.tenants.get_mut(tenant) {
            *own = own.saturating_sub(less);
            if *own == 0 {
                self.tenants.remove(tenant);
            }
        }
    }
}

impl Budget {
    /// A budget of so much in all; `watch` is told each time what is held of it.
    #[must_use]
    pub fn new(total: usize, watch: impl Fn(usize) + Send + Sync + 'static) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Inner { total, state, freed: Notify::new(), watch: Box::new(watch) }))
    }

    /// Whether several tenants have keys, so that none of them may have everything.
    pub fn set_shared(&self, shared: bool) {
        self.state().shared = shared;
    }

    /// The most that is ever given to one request: half of it, so that a tenant's share allows it.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.total / 2
    }

    /// Nothing yet, to be made larger.
    #[must_use]
    pub fn nothing(&self, tenant: &Tenant, what: Use) -> Reserved {
        Reserved { budget: self.clone(), tenant: tenant.clone(), what, amount: 0 }
    }

    /// So much of it at once, where there is so much.
    #[must_use]
    pub fn try_reserve(&self, tenant: &Tenant, amount: usize, what: Use) -> Option<Reserved> {
        let mut reserved = self.nothing(tenant, what);
        reserved.try_resize(amount).then_some(reserved)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is held, in one step that nobody sees half of.
    fn change<T>(&self, change: impl FnOnce(usize, &mut State) -> T) -> T {
        let mut state = self.state();
        let before = state.held();
        let value = change(self.0.total, &mut state);
        let after = state.held();
        (self.0.watch)(after);
        drop(state);
        if after < before {
            self.0.freed.notify_waiters();
        }
        value
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("total", &self.0.total).field("state", &self.state()).finish()
    }
}

/// A part of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Budget,
    tenant: Tenant,
    what: Use,
    amount: usize,
}

impl Reserved {
    /// Makes it so much, where that fits. Making it smaller always does.
    pub fn try_resize(&mut self, amount: usize) -> bool {
        self.try_turn(amount, self.what)
    }

    /// The same, for another use from then on.
    pub fn try_turn(&mut self, amount: usize, what: Use) -> bool {
        let (tenant, before, was) = (&self.tenant, self.amount, self.what);
        let smaller = amount <= before && what == was;
        let done = self.budget.change(|total, state| {
            state.subtract(tenant, before, was);
            let fits = smaller || state.fits(total, tenant, amount, what);
            let (amount, what) = if fits { (amount, what) } else { (before, was) };
            state.add(tenant, amount, what);
            fits
        });
        if done {
            (self.amount, self.what) = (amount, what);
        }
        done
    }

    /// The same, after a wait of at most so long.
    pub async fn turn(&mut self, amount: usize, what: Use, within: Duration) -> bool {
        let budget = self.budget.clone();
        let turning = async {
            loop {
                let freed = budget.0.freed.notified();
                let mut freed = std::pin::pin!(freed);
                freed.as_mut().enable();
                if self.try_turn(amount, what) {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(within, turning).await.is_ok()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.change(|_, state| state.subtract(&self.tenant, self.amount, self.what));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn budget(total: usize) -> (Budget, Arc<AtomicUsize>) {
        let held = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&held);
        (Budget::new(total, move |now| seen.store(now, Ordering::SeqCst)), held)
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::named(name)
    }

    #[test]
    fn no_more_is_given_than_there_is_and_all_of_it_comes_back() {
        let ((budget, held), a) = (budget(100), tenant("a"));
        let mut first = budget.try_reserve(&a, 60, Use::Reading).unwrap();
        assert!(budget.try_reserve(&a, 41, Use::Reading).is_none());
        assert!(!first.try_resize(101) && first.try_resize(100) && first.try_resize(70));
        assert_eq!(held.load(Ordering::SeqCst), 70);
        assert!(!first.try_turn(26, Use::Waiting), "a quarter may wait");
        assert_eq!(held.load(Ordering::SeqCst), 70, "what does not fit changes nothing");
        assert!(first.try_turn(25, Use::Waiting));
        assert!(budget.try_reserve(&a, 51, Use::Incoming).is_none(), "half may be on its way");
        let incoming = budget.try_reserve(&a, 50, Use::Incoming).unwrap();
        assert!(budget.try_reserve(&a, 25, Use::Reading).is_some(), "the rest is for what is complete");
        drop((first, incoming));
        assert_eq!(held.load(Ordering::SeqCst), 0);
        assert!(budget.state().tenants.is_empty());
    }

    #[test]
    fn of_several_tenants_each_finds_something() {
        let (budget, _) = budget(64);
        let take_all = |name: &str| {
            let mut taken = Vec::new();
            while let Some(one) = budget.try_reserve(&tenant(name), 1, Use::Reading) {
                taken.push(one);
            }
            taken
        };
        assert_eq!(take_all("alone").len(), 64);
        budget.set_shared(true);
        let first = take_all("a");
        assert_eq!(first.len(), 48);
        let others: Vec<_> = ["b", "c", "d"].map(|name| (name, take_all(name))).into();
        for (name, taken) in others {
            assert!(!taken.is_empty(), "{name} is shut out");
        }
    }

    #[test]
    fn a_tenant_without_anything_gets_what_there_is_however_little() {
        let (budget, _) = budget(1);
        budget.set_shared(true);
        let only = budget.try_reserve(&tenant("a"), 1, Use::Reading);
        assert!(only.is_some() && budget.try_reserve(&tenant("b"), 1, Use::Reading).is_none());
    }

    #[tokio::test]
    async fn who_waits_goes_on_as_soon_as_there_is_room() {
        let ((budget, held), a) = (budget(10), tenant("a"));
        let first = budget.try_reserve(&a, 10, Use::Reading).unwrap();
        let mut second = budget.nothing(&a, Use::Reading);
        assert!(!second.turn(1, Use::Reading, Duration::from_millis(10)).await);
        let waiting = tokio::spawn(async move {
            let done = second.turn(4, Use::Reading, Duration::from_secs(20)).await;
            (done, second)
        });
        tokio::task::yield_now().await;
        drop(first);
        let (done, second) = waiting.await.unwrap();
        assert!(done);
        assert_eq!(held.load(Ordering::SeqCst), 4);
        drop(second);
        assert_eq!(held.load(Ordering::SeqCst), 0);
    }
}
