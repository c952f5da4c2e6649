//! Requests that name themselves: the same key with the same request gives the same execution, however often and
//! however fast it is sent.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::execution::id::{ExecutionId, Tenant};

/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys that are remembered; the oldest goes first. 100 bytes or so each.
const MAX_KEYS: usize = 100_000;

/// A key of the caller's choice, and the SHA-256 of the request that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's word.
    pub key: String,
    /// Tells another request under the same key.
    pub request: [u8; 32],
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Never seen, or forgotten.
    No,
    /// The same request was accepted as this execution.
    Same(ExecutionId),
    /// Another request was.
    Another,
}

type Owner = (Tenant, String);

/// The keys of all tenants.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<Owner, ([u8; 32], ExecutionId)>,
    order: VecDeque<(Instant, Owner)>,
}

impl Keys {
    pub(super) fn look_up(&mut self, tenant: &Tenant, key: &IdempotencyKey, now: Instant) -> Known {
        self.expire(now);
        match self.known.get(&(tenant.clone(), key.key.clone())) {
            None => Known::No,
            Some((request, id)) if *request == key.request => Known::Same(*id),
            Some(_) => Known::Another,
        }
    }

    /// Only for a key that is not known.
    pub(super) fn remember(&mut self, tenant: &Tenant, key: IdempotencyKey, id: ExecutionId, now: Instant) {
        let owner = (tenant.clone(), key.key);
        self.order.push_back((now, owner.clone()));
        self.known.insert(owner, (key.request, id));
    }

    fn expire(&mut self, now: Instant) {
        while let Some((since, _)) = self.order.front() {
            if now.duration_since(*since) < KEPT && self.order.len() <= MAX_KEYS {
                return;
            }
            if let Some((_, owner)) = self.order.pop_front() {
                self.known.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, request: u8) -> IdempotencyKey {
        IdempotencyKey { key: text.into(), request: [request; 32] }
    }

    #[test]
    fn a_key_names_one_request_of_one_tenant_for_a_day() {
        let (mut keys, now, id) = (Keys::default(), Instant::now(), ExecutionId::random());
        let (a, b) = (Tenant::named("a"), Tenant::named("b"));
        assert_eq!(keys.look_up(&a, &key("k", 1), now), Known::No);
        keys.remember(&a, key("k", 1), id, now);
        assert_eq!(keys.look_up(&a, &key("k", 1), now), Known::Same(id));
        assert_eq!(keys.look_up(&a, &key("k", 2), now), Known::Another);
        assert_eq!(keys.look_up(&b, &key("k", 1), now), Known::No);
        assert_eq!(keys.look_up(&a, &key("k", 1), now + KEPT), Known::No);
        assert!(keys.known.is_empty() && keys.order.is_empty());
    }
}
