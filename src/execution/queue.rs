//! The bounded queue between submitters and workers: full means an immediate refusal, never a wait. Tenants take
//! turns, so that one who floods it delays others by no more than one execution of theirs, and a tenant that runs as
//! many as it may is passed over until one of them ends. So is what a key of its brought that has its share running.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::execution::id::Tenant;
use crate::execution::spec::KeyShare;

/// Why the queue does not take an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It has no room for anybody, or takes nothing any more.
    Queue,
    /// This tenant has its whole share of it.
    Share,
}

/// Sizes of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    /// Items that may wait.
    pub(super) length: usize,
    /// Items of one tenant that may wait.
    pub(super) share: usize,
    /// Items of one tenant that may be out at once, to begin with.
    pub(super) concurrency: usize,
}

/// First in, first out for each tenant; tenants in turn; with removal from the middle.
#[derive(Debug)]
pub(super) struct Queue<T> {
    limits: QueueLimits,
    lanes: Mutex<Lanes<T>>,
    /// Something may have become free to be taken. Whoever takes an item passes it on while there is more.
    changed: Notify,
}

#[derive(Debug)]
struct Lanes<T> {
    waiting: HashMap<Tenant, VecDeque<Waiting<T>>>,
    /// Items that are out, of tenants that have some.
    running: HashMap<Tenant, usize>,
    /// The same of keys that have a share of their own.
    running_by_key: HashMap<String, usize>,
    /// Tenants with something waiting, each once, the one whose turn is next first.
    turns: VecDeque<Tenant>,
    /// Items of one tenant that may be out at once.
    concurrency: usize,
    length: usize,
    /// Places that are taken by items on their way, by tenant.
    reserved: HashMap<Tenant, usize>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    share: Option<KeyShare>,
}

/// One less; whoever has none is not kept.
fn count_down<K: Hash + Eq>(counts: &mut HashMap<K, usize>, whose: &K) {
    if let Some(count) = counts.get_mut(whose) {
        *count -= 1;
        if *count == 0 {
            counts.remove(whose);
        }
    }
}

impl<T> Lanes<T> {
    fn add(&mut self, tenant: &Tenant, share: Option<KeyShare>, item: T) {
        let lane = self.waiting.entry(tenant.clone()).or_default();
        if lane.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        lane.push_back(Waiting { item, share });
        self.length += 1;
    }

    /// Whose turn it is, and which of theirs, among those that may have one more out.
    fn next_turn(&self) -> Option<(usize, usize)> {
        let place = |tenant| {
            let room = self.running.get(tenant).is_none_or(|out| *out < self.concurrency);
            room.then(|| self.first_of(tenant)).flatten()
        };
        self.turns.iter().enumerate().find_map(|(turn, tenant)| Some((turn, place(tenant)?)))
    }

    /// The first of a tenant's that was not brought by a key which has its share out. Looks far only behind such a key.
    fn first_of(&self, tenant: &Tenant) -> Option<usize> {
        let room = |share: &KeyShare| {
            let out = self.running_by_key.get(&share.key);
            out.is_none_or(|out| *out < usize::from(share.concurrency))
        };
        self.waiting.get(tenant)?.iter().position(|waiting| waiting.share.as_ref().is_none_or(room))
    }

    fn take_next(&mut self) -> Option<(Tenant, Waiting<T>)> {
        let (turn, place) = self.next_turn()?;
        let tenant = self.turns.remove(turn)?;
        let lane = self.waiting.get_mut(&tenant)?;
        let taken = lane.remove(place)?;
        self.length -= 1;
        if lane.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant.clone());
        }
        *self.running.entry(tenant.clone()).or_default() += 1;
        if let Some(share) = &taken.share {
            *self.running_by_key.entry(share.key.clone()).or_default() += 1;
        }
        Some((tenant, taken))
    }
}

/// An item that was taken. Until it is dropped it counts as one that its tenant and its key have out.
#[derive(Debug)]
pub(super) struct Taken<'a, T> {
    pub(super) item: T,
    tenant: Tenant,
    share: Option<KeyShare>,
    queue: &'a Queue<T>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.queue.give_back(&self.tenant, self.share.as_ref());
    }
}

impl<T> Queue<T> {
    pub(super) fn new(limits: QueueLimits) -> Self {
        let lanes = Lanes {
            waiting: HashMap::new(),
            running: HashMap::new(),
            running_by_key: HashMap::new(),
            turns: VecDeque::new(),
            // With none at once, nothing would ever run.
            concurrency: limits.concurrency.max(1),
            length: 0,
            reserved: HashMap::new(),
            closed: false,
        };
        Self { limits, lanes: Mutex::new(lanes), changed: Notify::new() }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Items of one tenant that may be out at once, at least one. What is out stays out.
    pub(super) fn set_concurrency(&self, concurrency: usize) {
        let concurrency = concurrency.max(1);
        let before = std::mem::replace(&mut self.lanes().concurrency, concurrency);
        if before < concurrency {
            self.changed.notify_one();
        }
    }

    pub(super) fn concurrency(&self) -> usize {
        self.lanes().concurrency
    }

    /// Takes a place for an item that is on its way, or refuses at once. [`Self::push`] or [`Self::release`] must follow.
    pub(super) fn reserve(&self, tenant: &Tenant) -> Result<(), Full> {
        let lanes = &mut *self.lanes();
        let on_their_way: usize = lanes.reserved.values().sum();
        if lanes.length + on_their_way >= self.limits.length || lanes.closed {
            return Err(Full::Queue);
        }
        let waiting = lanes.waiting.get(tenant).map_or(0, VecDeque::len);
        let on_its_way = lanes.reserved.get(tenant).copied().unwrap_or(0);
        if waiting + on_its_way >= self.limits.share {
            return Err(Full::Share);
        }
        *lanes.reserved.entry(tenant.clone()).or_default() += 1;
        Ok(())
    }

    /// The place that was reserved is not needed.
    pub(super) fn release(&self, tenant: &Tenant) {
        count_down(&mut self.lanes().reserved, tenant);
    }

    /// Adds at the end of the tenant's lane, in the place that was reserved. Gives it back when the queue was closed.
    pub(super) fn push(&self, tenant: &Tenant, share: Option<KeyShare>, item: T) -> Result<(), T> {
        let lanes = &mut *self.lanes();
        count_down(&mut lanes.reserved, tenant);
        if lanes.closed {
            return Err(item);
        }
        lanes.add(tenant, share, item);
        self.changed.notify_one();
        Ok(())
    }

    /// Adds an item that was accepted before, whatever room there is.
    pub(super) fn restore(&self, tenant: &Tenant, share: Option<KeyShare>, item: T) {
        self.lanes().add(tenant, share, item);
        self.changed.notify_one();
    }

    /// Takes the first of the tenant whose turn it is, waiting for one; `None` once closed.
    pub(super) async fn pop(&self) -> Option<Taken<'_, T>> {
        loop {
            let changed = self.changed.notified();
            {
                let lanes = &mut *self.lanes();
                if lanes.closed {
                    return None;
                }
                if let Some((tenant, Waiting { item, share })) = lanes.take_next() {
                    if lanes.next_turn().is_some() {
                        self.changed.notify_one();
                    }
                    return Some(Taken { item, tenant, share, queue: self });
                }
            }
            changed.await;
        }
    }

    fn give_back(&self, tenant: &Tenant, share: Option<&KeyShare>) {
        let lanes = &mut *self.lanes();
        count_down(&mut lanes.running, tenant);
        if let Some(share) = share {
            count_down(&mut lanes.running_by_key, &share.key);
        }
        self.changed.notify_one();
    }

    /// Takes out the one that matches of this tenant's, where it waits.
    pub(super) fn remove(&self, tenant: &Tenant, matches: impl Fn(&T) -> bool) -> Option<T> {
        let lanes = &mut *self.lanes();
        let lane = lanes.waiting.get_mut(tenant)?;
        let at = lane.iter().position(|waiting| matches(&waiting.item));
        let item = at.and_then(|at| lane.remove(at)).map(|waiting| waiting.item);
        if lane.is_empty() {
            lanes.waiting.remove(tenant);
            lanes.turns.retain(|other| other != tenant);
        }
        lanes.length -= usize::from(item.is_some());
        item
    }

    /// Nothing goes in or out any more.
    pub(super) fn close(&self) {
        self.lanes().closed = true;
        self.changed.notify_waiters();
    }

    pub(super) fn len(&self) -> usize {
        self.lanes().length
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::named(name)
    }

    fn queue<T>(length: usize, share: usize) -> Queue<T> {
        Queue::new(QueueLimits { length, share, concurrency: usize::MAX })
    }

    /// At most this many of one tenant out at once.
    fn narrow<T>(concurrency: usize) -> Queue<T> {
        Queue::new(QueueLimits { length: 100, share: 100, concurrency })
    }

    fn push<T: std::fmt::Debug>(queue: &Queue<T>, tenant: &Tenant, item: T) -> Result<(), Full> {
        queue.reserve(tenant)?;
        queue.push(tenant, None, item).unwrap();
        Ok(())
    }

    /// Takes one for good.
    async fn pop<T: Clone>(queue: &Queue<T>) -> Option<T> {
        queue.pop().await.map(|taken| taken.item.clone())
    }

    /// Takes one if one may be taken now.
    fn take<T>(queue: &Queue<T>) -> Option<Taken<'_, T>> {
        use futures::FutureExt as _;
        queue.pop().now_or_never().flatten()
    }

    #[tokio::test]
    async fn first_in_first_out_and_full_is_refused() {
        let (queue, a) = (queue(2, 2), tenant("a"));
        assert_eq!(
            (push(&queue, &a, 1), push(&queue, &a, 2), push(&queue, &a, 3)),
            (Ok(()), Ok(()), Err(Full::Queue))
        );
        assert_eq!((pop(&queue).await, pop(&queue).await, queue.len()), (Some(1), Some(2), 0));
    }

    #[tokio::test]
    async fn tenants_take_turns_whoever_came_first() {
        let (queue, a, b, c) = (queue(100, 100), tenant("a"), tenant("b"), tenant("c"));
        for number in 0..4 {
            push(&queue, &a, ("a", number)).unwrap();
        }
        push(&queue, &b, ("b", 0)).unwrap();
        push(&queue, &b, ("b", 1)).unwrap();
        let mut seen = vec![pop(&queue).await.unwrap()];
        push(&queue, &c, ("c", 0)).unwrap();
        for _ in 0..6 {
            seen.push(pop(&queue).await.unwrap());
        }
        assert_eq!(seen, [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2), ("a", 3)]);
    }

    #[test]
    fn one_tenant_can_not_take_the_whole_queue() {
        let (queue, a, b) = (queue(10, 6), tenant("a"), tenant("b"));
        let taken = (0..10).filter(|item| push(&queue, &a, *item).is_ok()).count();
        assert_eq!((taken, push(&queue, &a, 0)), (6, Err(Full::Share)));
        let taken = (0..10).filter(|item| push(&queue, &b, *item).is_ok()).count();
        assert_eq!((taken, push(&queue, &b, 0)), (4, Err(Full::Queue)));
    }

    #[test]
    fn a_place_is_taken_from_its_reservation_on() {
        let (queue, a, b) = (queue::<u8>(2, 2), tenant("a"), tenant("b"));
        assert_eq!(
            (queue.reserve(&a), queue.reserve(&b), queue.reserve(&b)),
            (Ok(()), Ok(()), Err(Full::Queue))
        );
        queue.release(&b);
        assert_eq!(
            (queue.reserve(&a), queue.push(&a, None, 1), queue.push(&a, None, 2)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!(queue.reserve(&a), Err(Full::Queue));
        queue.restore(&a, None, 3);
        assert_eq!(queue.len(), 3);
        queue.close();
        assert_eq!((queue.reserve(&b), queue.push(&b, None, 4)), (Err(Full::Queue), Err(4)));
    }

    #[tokio::test]
    async fn a_removed_item_is_never_popped_and_frees_its_place() {
        let (queue, a, b) = (queue(2, 2), tenant("a"), tenant("b"));
        push(&queue, &a, 1).unwrap();
        push(&queue, &b, 2).unwrap();
        assert_eq!(queue.remove(&a, |item| *item == 1), Some(1));
        assert_eq!(queue.remove(&a, |item| *item == 1), None);
        push(&queue, &a, 3).unwrap();
        assert_eq!((pop(&queue).await, pop(&queue).await), (Some(2), Some(3)));
        queue.close();
        assert_eq!((pop(&queue).await, push(&queue, &a, 5)), (None, Err(Full::Queue)));
    }

    #[test]
    fn a_tenant_at_its_limit_is_passed_over_and_keeps_its_turn() {
        let (queue, a, b) = (narrow(2), tenant("a"), tenant("b"));
        (0..4).for_each(|number| push(&queue, &a, ("a", number)).unwrap());
        let (first, second) = (take(&queue).unwrap(), take(&queue).unwrap());
        assert_eq!((first.item, second.item), (("a", 0), ("a", 1)));
        assert!(take(&queue).is_none(), "two of it are out");
        push(&queue, &b, ("b", 0)).unwrap();
        push(&queue, &b, ("b", 1)).unwrap();
        let other = take(&queue).unwrap();
        assert_eq!(other.item, ("b", 0));
        drop(first);
        assert_eq!(take(&queue).unwrap().item, ("a", 2), "its turn was before the other's second");
        drop((second, other));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_key_at_its_share_is_passed_over_also_by_its_own_tenant() {
        let (queue, a, b) = (queue(100, 100), tenant("a"), tenant("b"));
        let narrow = KeyShare { key: "narrow".into(), concurrency: 1 };
        let push = |tenant, share: Option<&KeyShare>, item| {
            queue.reserve(tenant).unwrap();
            queue.push(tenant, share.cloned(), item).unwrap();
        };
        push(&a, Some(&narrow), "narrow 0");
        push(&a, Some(&narrow), "narrow 1");
        push(&a, None, "wide");
        push(&b, None, "other");
        let first = take(&queue).unwrap();
        let seen = [take(&queue).unwrap(), take(&queue).unwrap()];
        assert_eq!((first.item, seen.each_ref().map(|taken| taken.item)), ("narrow 0", ["other", "wide"]));
        assert!(take(&queue).is_none(), "one of this key is out");
        drop(seen);
        assert!(take(&queue).is_none(), "the end of another's changes nothing");
        drop(first);
        assert_eq!(take(&queue).unwrap().item, "narrow 1");
        assert!(queue.lanes().running_by_key.is_empty());
    }

    #[tokio::test]
    async fn more_at_once_wakes_who_waits_and_less_takes_nothing_back() {
        let (queue, a) = (Arc::new(narrow(1)), tenant("a"));
        (0..4).for_each(|item| push(&queue, &a, item).unwrap());
        let first = take(&queue).unwrap();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.pop().await.map(|taken| taken.item) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        queue.set_concurrency(2);
        assert_eq!(waiting.await.unwrap(), Some(1));
        let third = take(&queue).unwrap();
        queue.set_concurrency(0);
        assert_eq!(queue.concurrency(), 1);
        drop(first);
        assert!(take(&queue).is_none(), "one is out");
        drop(third);
        assert_eq!(take(&queue).unwrap().item, 3);
    }

    #[tokio::test]
    async fn the_end_of_one_wakes_whoever_waits_for_the_next() {
        let (queue, a) = (Arc::new(narrow(1)), tenant("a"));
        push(&queue, &a, 1).unwrap();
        push(&queue, &a, 2).unwrap();
        let first = queue.pop().await.unwrap();
        let waiter = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { pop(&queue).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiter.is_finished());
        drop(first);
        assert_eq!(waiter.await.unwrap(), Some(2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_item_is_taken_once_and_no_tenant_is_over_its_limit() {
        const TENANTS: usize = 5;
        const EACH: usize = 200;
        let queue = Arc::new(Queue::new(QueueLimits { length: TENANTS * EACH, share: EACH, concurrency: 2 }));
        let out: Arc<[std::sync::atomic::AtomicUsize; TENANTS]> = Arc::default();
        let (done, mut results) = tokio::sync::mpsc::unbounded_channel();
        let workers: Vec<_> = (0..7)
            .map(|_| {
                let (queue, out, done) = (Arc::clone(&queue), Arc::clone(&out), done.clone());
                tokio::spawn(async move {
                    while let Some(taken) = queue.pop().await {
                        let (tenant, number): (usize, usize) = taken.item;
                        let out = &out[tenant];
                        let most = out.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                        tokio::task::yield_now().await;
                        out.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        done.send((tenant, number, most)).unwrap();
                    }
                })
            })
            .collect();
        for number in 0..EACH {
            for index in 0..TENANTS {
                push(&queue, &tenant(&format!("t{index}")), (index, number)).unwrap();
            }
        }
        let mut seen = std::collections::HashSet::new();
        for _ in 0..TENANTS * EACH {
            let next = tokio::time::timeout(Duration::from_secs(20), results.recv()).await;
            let (tenant, number, most) = next.expect("an item was forgotten").unwrap();
            assert!(seen.insert((tenant, number)) && most <= 2, "{tenant} {number} {most}");
        }
        queue.close();
        for worker in workers {
            tokio::time::timeout(Duration::from_secs(20), worker).await.expect("it ends").unwrap();
        }
    }
}
