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
    /// Places that are taken by items on their way, by tenant.
    reserved: HashMap<Tenant, usize>,
}

impl<T> Lanes<T> {
    fn add(&mut self, tenant: &Tenant, item: T) {
        let lane = self.waiting.entry(tenant.clone()).or_default();
        if lane.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        lane.push_back(item);
        self.length += 1;
    }

    fn release(&mut self, tenant: &Tenant) {
        if let Some(count) = self.reserved.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                self.reserved.remove(tenant);
            }
        }
    }

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
        let lanes =
            Lanes { waiting: HashMap::new(), turns: VecDeque::new(), length: 0, reserved: HashMap::new() };
        Self { capacity, share, lanes: Mutex::new(lanes), pushed: Semaphore::new(0) }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for an item that is on its way, or refuses at once. [`Self::push`] or [`Self::release`] must follow.
    pub(super) fn reserve(&self, tenant: &Tenant) -> Result<(), Full> {
        let lanes = &mut *self.lanes();
        let on_their_way: usize = lanes.reserved.values().sum();
        if lanes.length + on_their_way >= self.capacity || self.pushed.is_closed() {
            return Err(Full::Queue);
        }
        let waiting = lanes.waiting.get(tenant).map_or(0, VecDeque::len);
        let on_its_way = lanes.reserved.get(tenant).copied().unwrap_or(0);
        if waiting + on_its_way >= self.share {
            return Err(Full::Share);
        }
        *lanes.reserved.entry(tenant.clone()).or_default() += 1;
        Ok(())
    }

    /// The place that was reserved is not needed.
    pub(super) fn release(&self, tenant: &Tenant) {
        self.lanes().release(tenant);
    }

    /// Adds at the end of the tenant's lane, in the place that was reserved. Gives it back when the queue was closed.
    pub(super) fn push(&self, tenant: &Tenant, item: T) -> Result<(), T> {
        let lanes = &mut *self.lanes();
        lanes.release(tenant);
        if self.pushed.is_closed() {
            return Err(item);
        }
        lanes.add(tenant, item);
        self.pushed.add_permits(1);
        Ok(())
    }

    /// Adds an item that was accepted before, whatever room there is.
    pub(super) fn restore(&self, tenant: &Tenant, item: T) {
        self.lanes().add(tenant, item);
        self.pushed.add_permits(1);
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

    /// Takes out the one that matches of this tenant's, where it waits.
    pub(super) fn remove(&self, tenant: &Tenant, matches: impl Fn(&T) -> bool) -> Option<T> {
        let lanes = &mut *self.lanes();
        let lane = lanes.waiting.get_mut(tenant)?;
        let item = lane.iter().position(matches).and_then(|at| lane.remove(at));
        if lane.is_empty() {
            lanes.waiting.remove(tenant);
            lanes.turns.retain(|other| other != tenant);
        }
        lanes.length -= usize::from(item.is_some());
        item
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

    fn push<T: std::fmt::Debug>(queue: &Queue<T>, tenant: &Tenant, item: T) -> Result<(), Full> {
        queue.reserve(tenant)?;
        queue.push(tenant, item).unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn first_in_first_out_and_full_is_refused() {
        let (queue, a) = (Queue::new(2, 2), tenant("a"));
        assert_eq!(
            (push(&queue, &a, 1), push(&queue, &a, 2), push(&queue, &a, 3)),
            (Ok(()), Ok(()), Err(Full::Queue))
        );
        assert_eq!((queue.pop().await, queue.pop().await, queue.len()), (Some(1), Some(2), 0));
    }

    #[tokio::test]
    async fn tenants_take_turns_whoever_came_first() {
        let (queue, a, b, c) = (Queue::new(100, 100), tenant("a"), tenant("b"), tenant("c"));
        for number in 0..4 {
            push(&queue, &a, ("a", number)).unwrap();
        }
        push(&queue, &b, ("b", 0)).unwrap();
        push(&queue, &b, ("b", 1)).unwrap();
        let mut seen = vec![queue.pop().await.unwrap()];
        push(&queue, &c, ("c", 0)).unwrap();
        for _ in 0..6 {
            seen.push(queue.pop().await.unwrap());
        }
        assert_eq!(seen, [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2), ("a", 3)]);
    }

    #[test]
    fn one_tenant_can_not_take_the_whole_queue() {
        let (queue, a, b) = (Queue::new(10, 6), tenant("a"), tenant("b"));
        let taken = (0..10).filter(|item| push(&queue, &a, *item).is_ok()).count();
        assert_eq!((taken, push(&queue, &a, 0)), (6, Err(Full::Share)));
        let taken = (0..10).filter(|item| push(&queue, &b, *item).is_ok()).count();
        assert_eq!((taken, push(&queue, &b, 0)), (4, Err(Full::Queue)));
    }

    #[test]
    fn a_place_is_taken_from_its_reservation_on() {
        let (queue, a, b) = (Queue::<u8>::new(2, 2), tenant("a"), tenant("b"));
        assert_eq!(
            (queue.reserve(&a), queue.reserve(&b), queue.reserve(&b)),
            (Ok(()), Ok(()), Err(Full::Queue))
        );
        queue.release(&b);
        assert_eq!((queue.reserve(&a), queue.push(&a, 1), queue.push(&a, 2)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(queue.reserve(&a), Err(Full::Queue));
        queue.restore(&a, 3);
        assert_eq!(queue.len(), 3);
        queue.close();
        assert_eq!((queue.reserve(&b), queue.push(&b, 4)), (Err(Full::Queue), Err(4)));
    }

    #[tokio::test]
    async fn a_removed_item_is_never_popped_and_frees_its_place() {
        let (queue, a, b) = (Queue::new(2, 2), tenant("a"), tenant("b"));
        push(&queue, &a, 1).unwrap();
        push(&queue, &b, 2).unwrap();
        assert_eq!(queue.remove(&a, |item| *item == 1), Some(1));
        assert_eq!(queue.remove(&a, |item| *item == 1), None);
        push(&queue, &a, 3).unwrap();
        assert_eq!((queue.pop().await, queue.pop().await), (Some(2), Some(3)));
        queue.close();
        assert_eq!((queue.pop().await, push(&queue, &a, 5)), (None, Err(Full::Queue)));
    }
}
