//! How many bytes of projects and standard input accepted executions may hold, in all and for each tenant: the disk of the
//! data folder is shared, and a queue of large archives must not fill it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::execution::id::Tenant;

/// Sizes of a backlog, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BacklogLimits {
    /// Of all tenants together.
    pub(super) total: u64,
    /// Of one tenant.
    pub(super) share: u64,
}

/// Why a backlog does not take an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overfull {
    /// All tenants together hold too much.
    Total,
    /// This tenant holds its whole share.
    Share,
}

/// What accepted executions hold that have not ended.
#[derive(Debug)]
pub(super) struct Backlog {
    limits: BacklogLimits,
    held: Mutex<HashMap<Tenant, u64>>,
}

/// The bytes of one execution. They are counted until the permit is dropped.
#[derive(Debug)]
pub(super) struct BacklogPermit {
    backlog: Arc<Backlog>,
    tenant: Tenant,
    bytes: u64,
}

impl Backlog {
    pub(super) fn new(limits: BacklogLimits) -> Arc<Self> {
        Arc::new(Self { limits, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Tenant, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an execution in, or refuses it at once. One alone is always taken, however large: the archive has its own cap.
    pub(super) fn try_take(self: &Arc<Self>, tenant: &Tenant, bytes: u64) -> Result<BacklogPermit, Overfull> {
        let mut held = self.held();
        let (total, own) = (held.values().sum::<u64>(), held.get(tenant).copied().unwrap_or(0));
        if own > 0 && own.saturating_add(bytes) > self.limits.share {
            return Err(Overfull::Share);
        }
        if total > 0 && total.saturating_add(bytes) > self.limits.total {
            return Err(Overfull::Total);
        }
        Ok(self.count(&mut held, tenant, bytes))
    }

    /// Counts in an execution that was accepted before, whatever room there is.
    pub(super) fn take(self: &Arc<Self>, tenant: &Tenant, bytes: u64) -> BacklogPermit {
        self.count(&mut self.held(), tenant, bytes)
    }

    fn count(
        self: &Arc<Self>,
        held: &mut HashMap<Tenant, u64>,
        tenant: &Tenant,
        bytes: u64,
    ) -> BacklogPermit {
        *held.entry(tenant.clone()).or_default() += bytes;
        BacklogPermit { backlog: Arc::clone(self), tenant: tenant.clone(), bytes }
    }
}

impl Drop for BacklogPermit {
    fn drop(&mut self) {
        let mut held = self.backlog.held();
        if let Some(own) = held.get_mut(&self.tenant) {
            *own -= self.bytes;
            if *own == 0 {
                held.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_in_all_and_for_each_tenant_and_given_back() {
        let backlog = Backlog::new(BacklogLimits { total: 100, share: 60 });
        let (a, b, c) = (Tenant::named("a"), Tenant::named("b"), Tenant::named("c"));
        let first = backlog.try_take(&a, 50).unwrap();
        assert_eq!(backlog.try_take(&a, 11).unwrap_err(), Overfull::Share);
        let second = backlog.try_take(&b, 50).unwrap();
        assert_eq!(backlog.try_take(&c, 1).unwrap_err(), Overfull::Total);
        drop(second);
        let third = backlog.try_take(&c, 50).unwrap();
        drop((first, third));
        assert!(backlog.held().is_empty());
    }

    #[test]
    fn one_alone_is_taken_and_so_is_what_was_accepted_before() {
        let backlog = Backlog::new(BacklogLimits { total: 100, share: 60 });
        let a = Tenant::named("a");
        let large = backlog.try_take(&a, 500).unwrap();
        assert_eq!(backlog.try_take(&a, 1).unwrap_err(), Overfull::Share);
        let restored = backlog.take(&a, 500);
        drop((large, restored));
        assert!(backlog.held().is_empty());
    }
}
