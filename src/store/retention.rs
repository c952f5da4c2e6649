//! Which finished executions are still kept: by age, count and bytes, the oldest going first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Age at which an execution goes.
    pub age: Duration,
    /// Number that are kept.
    pub count: usize,
    /// Bytes of output and artifacts that are kept.
    pub bytes: u64,
}

/// The finished executions in the order in which they finished.
#[derive(Debug)]
pub struct Retention<K> {
    policy: RetentionPolicy,
    kept: VecDeque<(Instant, K, u64)>,
    bytes: u64,
}

impl<K: PartialEq> Retention<K> {
    /// Nothing is kept yet.
    #[must_use]
    pub fn new(policy: RetentionPolicy) -> Self {
        Self { policy, kept: VecDeque::new(), bytes: 0 }
    }

    /// A finished execution with the bytes that keeping it costs.
    pub fn add(&mut self, key: K, bytes: u64, now: Instant) {
        self.kept.push_back((now, key, bytes));
        self.bytes += bytes;
    }

    /// It is gone already.
    pub fn remove(&mut self, key: &K) {
        if let Some(at) = self.kept.iter().position(|(_, kept, _)| kept == key)
            && let Some((_, _, bytes)) = self.kept.remove(at)
        {
            self.bytes -= bytes;
        }
    }

    /// Those that must go now. The newest always stays, however big: somebody is about to read it.
    pub fn expire(&mut self, now: Instant) -> Vec<K> {
        let mut gone = Vec::new();
        while let Some((finished, _, _)) = self.kept.front() {
            let old = now.duration_since(*finished) >= self.policy.age;
            let much = self.kept.len() > self.policy.count.max(1)
                || (self.bytes > self.policy.bytes && self.kept.len() > 1);
            if !(old || much) {
                break;
            }
            if let Some((_, key, bytes)) = self.kept.pop_front() {
                self.bytes -= bytes;
                gone.push(key);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(seconds: u64, count: usize, bytes: u64) -> Retention<u32> {
        Retention::new(RetentionPolicy { age: Duration::from_secs(seconds), count, bytes })
    }

    #[test]
    fn the_oldest_goes_first_by_age_count_and_bytes() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);

        let mut by_age = retention(10, 100, 100);
        by_age.add(1, 0, start);
        by_age.add(2, 0, later(5));
        assert_eq!(by_age.expire(later(9)), Vec::<u32>::new());
        assert_eq!(by_age.expire(later(10)), [1]);

        let mut by_count = retention(10, 2, 100);
        (1..=4).for_each(|key| by_count.add(key, 0, start));
        assert_eq!(by_count.expire(start), [1, 2]);

        let mut by_bytes = retention(10, 100, 100);
        (1..=3).for_each(|key| by_bytes.add(key, 60, start));
        assert_eq!(by_bytes.expire(start), [1, 2]);
        by_bytes.remove(&3);
        by_bytes.add(4, 500, start);
        assert_eq!(by_bytes.expire(start), Vec::<u32>::new(), "the newest stays however big it is");
    }
}
