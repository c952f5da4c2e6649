//! A user id of its own for each container that lives, so that no quota that the kernel keeps for each user is shared.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Ids of one server: far more than it can have containers, those on their way out included.
const COUNT: u32 = 5_000;

/// Who has which.
#[derive(Debug, Clone)]
pub(super) struct Uids {
    base: u32,
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

/// An id for as long as this lives.
#[derive(Debug)]
pub(super) struct Uid {
    pub(super) id: u32,
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

impl Uids {
    pub(super) fn from(base: u32) -> Self {
        Self { base, taken: Arc::default() }
    }

    /// The first that no container has. `None` when all have one.
    pub(super) fn lease(&self) -> Option<Uid> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (self.base..self.base + COUNT).find(|id| !taken.contains(id))?;
        taken.insert(id);
        Some(Uid { id, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Uid {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_containers_have_one_id_at_once_and_a_free_one_is_used_again() {
        let uids = Uids::from(20_000);
        let (first, second) = (uids.lease().unwrap(), uids.lease().unwrap());
        assert_eq!((first.id, second.id), (20_000, 20_001));
        drop(first);
        assert_eq!(uids.lease().unwrap().id, 20_000);
        let all: Vec<_> = std::iter::from_fn(|| uids.lease()).collect();
        assert_eq!(all.len(), 4_999);
    }
}
