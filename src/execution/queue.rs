//! The bounded queue between submitters and workers: full means an immediate refusal, never a wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// The queue has no room, or takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// First in, first out, with removal from the middle.
#[derive(Debug)]
pub(super) struct Queue<T> {
    capacity: usize,
    items: Mutex<VecDeque<T>>,
    /// One permit for each push. A removal leaves its permit behind; `pop` then finds nothing and waits on.
    pushed: Semaphore,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, items: Mutex::default(), pushed: Semaphore::new(0) }
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds at the end, or refuses at once.
    pub(super) fn push(&self, item: T) -> Result<(), Full> {
        let mut items = self.items();
        if items.len() >= self.capacity || self.pushed.is_closed() {
            return Err(Full);
        }
        items.push_back(item);
        self.pushed.add_permits(1);
        Ok(())
    }

    /// Takes the first, waiting for one; `None` once closed.
    pub(super) async fn pop(&self) -> Option<T> {
        loop {
            self.pushed.acquire().await.ok()?.forget();
            if let Some(item) = self.items().pop_front() {
                return Some(item);
            }
        }
    }

    /// Takes out what matches.
    pub(super) fn remove(&self, matches: impl Fn(&T) -> bool) {
        self.items().retain(|item| !matches(item));
    }

    /// Nothing goes in or out any more; gives back what waited.
    pub(super) fn close(&self) -> Vec<T> {
        self.pushed.close();
        self.items().drain(..).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.items().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_in_first_out_and_full_is_refused() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(Full)));
        assert_eq!((queue.pop().await, queue.pop().await, queue.len()), (Some(1), Some(2), 0));
    }

    #[tokio::test]
    async fn a_removed_item_is_never_popped_and_frees_its_place() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        queue.remove(|item| *item == 1);
        queue.push(3).unwrap();
        assert_eq!((queue.pop().await, queue.pop().await), (Some(2), Some(3)));
        queue.push(4).unwrap();
        assert_eq!(queue.close(), [4]);
        assert_eq!((queue.pop().await, queue.push(5)), (None, Err(Full)));
    }
}
