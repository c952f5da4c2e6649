//! The bounded queue between submitters and workers: full means an immediate refusal, never a wait, and tenants take
//! turns, so that one who floods it delays others by no more than one execution of theirs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::execution::id::Tenant;

/// Why the queue does not take an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It has no room for anybody, or takes nothing any more.
    Queue,
    /// This tenant has its whole share of it.
    Share,
}

/// First in, first out for each tenant; tenants in turn; with removal from the middle.
#[derive(Debug)]
pub(super) struct Queue<T> {
    capacity: usize,
    /// Items that one tenant may have in it.
    share: usize,
    lanes: Mutex<Lanes<T>>,
    /// One permit for each push. A removal leaves its permit behind; `pop` then finds nothing and waits on.
    pushed: Semaphore,
}

#[derive(Debug)]
struct Lanes<T> {
    waiting: HashMap<Tenant, VecDeque<T>>,
    /// Tenants with something waiting, each once, the one whose turn is next first.
    turns: VecDeque<Tenant>,
    length: usize,
}

impl<T> Lanes<T> {
    fn take_next(&mut self) -> Option<T> {
        let tenant = self.turns.pop_front()?;
        let lane = self.waiting.get_mut(&tenant)?;
        let item = lane.pop_front();
        self.length -= usize::from(item.is_some());
        if lane.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        item
    }
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize, share: usize) -> Self {
        let lanes = Lanes { waiting: HashMap::new(), turns: VecDeque::new(), length: 0 };
        Self { capacity, share, lanes: Mutex::new(lanes), pushed: Semaphore::new(0) }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds at the end of the tenant's lane, or refuses at once.
    pub(super) fn push(&self, tenant: &Tenant, item: T) -> Result<(), Full> {
        let lanes = &mut *self.lanes();
        if lanes.length >= self.capacity || self.pushed.is_closed() {
            return Err(Full::Queue);
        }
        if lanes.waiting.get(tenant).is_some_and(|lane| lane.len() >= self.share) {
            return Err(Full::Share);
        }
        let lane = lanes.waiting.entry(tenant.clone()).or_default();
        if lane.is_empty() {
            lanes.turns.push_back(tenant.clone());
        }
        lane.push_back(item);
        lanes.length += 1;
        self.pushed.add_permits(1);
        Ok(())
    }

    /// Takes the first of the tenant whose turn it is, waiting for one; `None` once closed.
    pub(super) async fn pop(&self) -> Option<T> {
        loop {
            self.pushed.acquire().await.ok()?.forget();
            if let Some(item) = self.lanes().take_next() {
                return Some(item);
            }
        }
    }

    /// Takes out what matches of this tenant's.
    pub(super) fn remove(&self, tenant: &Tenant, matches: impl Fn(&T) -> bool) {
        let lanes = &mut *self.lanes();
        let Some(lane) = lanes.waiting.get_mut(tenant) else { return };
        let before = lane.len();
        lane.retain(|item| !matches(item));
        lanes.length -= before - lane.len();
        if lane.is_empty() {
            lanes.waiting.remove(tenant);
            lanes.turns.retain(|other| other != tenant);
        }
    }

    /// Nothing goes in or out any more.
    pub(super) fn close(&self) {
        self.pushed.close();
    }

    pub(super) fn len(&self) -> usize {
        self.lanes().length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::named(name)
    }

    #[tokio::test]
    async fn first_in_first_out_and_full_is_refused() {
        let (queue, a) = (Queue::new(2, 2), tenant("a"));
        assert_eq!(
            (queue.push(&a, 1), queue.push(&a, 2), queue.push(&a, 3)),
            (Ok(()), Ok(()), Err(Full::Queue))
        );
        assert_eq!((queue.pop().await, queue.pop().await, queue.len()), (Some(1), Some(2), 0));
    }

    #[tokio::test]
    async fn tenants_take_turns_whoever_came_first() {
        let (queue, a, b, c) = (Queue::new(100, 100), tenant("a"), tenant("b"), tenant("c"));
        for number in 0..4 {
            queue.push(&a, ("a", number)).unwrap();
        }
        queue.push(&b, ("b", 0)).unwrap();
        queue.push(&b, ("b", 1)).unwrap();
        let mut seen = vec![queue.pop().await.unwrap()];
        queue.push(&c, ("c", 0)).unwrap();
        for _ in 0..6 {
            seen.push(queue.pop().await.unwrap());
        }
        assert_eq!(seen, [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2), ("a", 3)]);
    }

    #[test]
    fn one_tenant_can_not_take_the_whole_queue() {
        let (queue, a, b) = (Queue::new(10, 6), tenant("a"), tenant("b"));
        let taken = (0..10).filter(|item| queue.push(&a, *item).is_ok()).count();
        assert_eq!((taken, queue.push(&a, 0)), (6, Err(Full::Share)));
        let taken = (0..10).filter(|item| queue.push(&b, *item).is_ok()).count();
        assert_eq!((taken, queue.push(&b, 0)), (4, Err(Full::Queue)));
    }

    #[tokio::test]
    async fn a_removed_item_is_never_popped_and_frees_its_place() {
        let (queue, a, b) = (Queue::new(2, 2), tenant("a"), tenant("b"));
        queue.push(&a, 1).unwrap();
        queue.push(&b, 2).unwrap();
        queue.remove(&a, |item| *item == 1);
        queue.push(&a, 3).unwrap();
        assert_eq!((queue.pop().await, queue.pop().await), (Some(2), Some(3)));
        queue.close();
        assert_eq!((queue.pop().await, queue.push(&a, 5)), (None, Err(Full::Queue)));
    }
}
