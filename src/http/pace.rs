//! The least pace of bytes that go to a caller or come from one: the web framework has a limit on neither the time
//! nor the rate of a body or an answer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A caller that does not keep the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Measures one direction of a connection. Only the time that is spent waiting for the caller counts, never our own.
#[derive(Debug)]
pub(super) struct Pace {
    /// Longest wait for a single byte.
    idle: Duration,
    /// Least average, in bytes per second. Taken anew each time that `idle` was waited in all, so that nobody saves up
    /// for a stall by having been fast.
    rate: u64,
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) fn new(idle: Duration, rate: u64) -> Self {
        Self { idle, rate, bytes: 0, waited: Duration::ZERO, waiting_since: None, alarm: None }
    }

    /// This many bytes went through.
    pub(super) fn moved(&mut self, bytes: usize) -> Result<(), TooSlow> {
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.count(bytes, waited)
    }

    /// This many bytes went through after this wait.
    fn count(&mut self, bytes: usize, waited: Duration) -> Result<(), TooSlow> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if waited.is_zero() || self.waited < self.idle {
            return Ok(());
        }
        let least = u128::from(self.rate) * self.waited.as_millis() / 1000;
        let enough = u128::from(self.bytes) >= least;
        (self.bytes, self.waited) = (0, Duration::ZERO);
        if enough { Ok(()) } else { Err(TooSlow) }
    }

    /// Nothing goes through for now; ready once that has lasted too long.
    pub(super) fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        let idle = self.idle;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            alarm.as_mut().reset(now + idle);
        }
        alarm.as_mut().poll(context).map(|()| TooSlow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Duration::from_secs(10), 100)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test]
    async fn a_stall_is_too_slow() {
        let mut pace = Pace::new(Duration::from_millis(30), 100);
        for _ in 0..3 {
            let began = Instant::now();
            let stalled = std::future::poll_fn(|context| pace.poll_stalled(context));
            assert_eq!(tokio::time::timeout(seconds(10), stalled).await, Ok(TooSlow));
            assert!(began.elapsed() >= Duration::from_millis(30));
            assert_eq!(pace.moved(1 << 20), Ok(()), "what comes then begins anew");
        }
    }

    #[test]
    fn a_drip_is_too_slow_at_the_first_average() {
        let mut pace = pace();
        let steps = (0..100).take_while(|_| pace.count(1, seconds(1)).is_ok()).count();
        assert_eq!(steps, 9);
    }

    #[test]
    fn the_least_rate_is_fast_enough_for_ever() {
        let mut pace = pace();
        assert!((0..1_000).all(|_| pace.count(900, seconds(9)).is_ok()));
    }

    #[test]
    fn haste_is_not_saved_up_for_later() {
        let mut pace = pace();
        assert_eq!(pace.count(1 << 30, Duration::ZERO), Ok(()));
        let steps = (0..100).take_while(|_| pace.count(1, seconds(9)).is_ok()).count();
        assert!(steps < 5, "one byte in nine seconds goes on for ever");
    }

    #[test]
    fn our_own_time_does_not_count() {
        let mut pace = pace();
        assert_eq!(pace.count(1, seconds(9)), Ok(()));
        assert!((0..100).all(|_| pace.count(1, Duration::ZERO).is_ok()));
    }
}
