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

/// After each such time of waiting for a caller, twice as much is asked of it, ...
const DOUBLED_AFTER: Duration = Duration::from_secs(60);
/// ... this often. With the default of 1 KiB/s that is 64 KiB/s from the seventh minute on: a line of 100 KiB/s brings
/// an archive of 100 MiB, and whoever sends as slowly as it may has sent that, and so is over, after 34 minutes.
const DOUBLED: u32 = 6;

/// Measures one direction of a connection. Only the time that is spent waiting for the caller counts, never our own.
#[derive(Debug)]
pub(super) struct Pace {
    /// Longest wait for a single byte.
    idle: Duration,
    /// Least average, in bytes per second. Taken anew each time that `idle` was waited in all, so that nobody saves up
    /// for a stall by having been fast.
    rate: u64,
    /// More is asked the longer it lasts.
    grows: bool,
    /// Waited in all.
    age: Duration,
    bytes: u64,
    /// Waited since the average was last taken.
    waited: Duration,
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// The same least rate for as long as it lasts.
    pub(super) fn new(idle: Duration, rate: u64) -> Self {
        let (age, waited) = (Duration::ZERO, Duration::ZERO);
        Self { idle, rate, grows: false, age, bytes: 0, waited, waiting_since: None, alarm: None }
    }

    /// A least rate that grows, so that nobody who sends just enough keeps a place for ever.
    pub(super) fn growing(idle: Duration, rate: u64) -> Self {
        Self { grows: true, ..Self::new(idle, rate) }
    }

    /// Bytes per second that are asked by now.
    fn least_rate(&self) -> u64 {
        let doubled = self.age.as_secs() / DOUBLED_AFTER.as_secs();
        let doubled = if self.grows { u32::try_from(doubled).unwrap_or(DOUBLED).min(DOUBLED) } else { 0 };
        self.rate.saturating_mul(1 << doubled)
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
        let least = u128::from(self.least_rate()) * self.waited.as_millis() / 1000;
        let enough = u128::from(self.bytes) >= least;
        self.age += self.waited;
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

    /// Seconds after which a caller that sends so many bytes a second is given up; at most 100,000.
    fn lasts(mut pace: Pace, rate: usize) -> u64 {
        let steps = (0..10_000_u64).take_while(|_| pace.count(10 * rate, seconds(10)).is_ok()).count();
        10 * steps as u64
    }

    #[test]
    fn the_longer_a_body_takes_the_more_is_asked_of_its_caller() {
        let growing = || Pace::growing(seconds(10), 1_024);
        for (rate, until) in [(1_024, 60), (1_025, 60), (2_048, 120), (5_000, 180), (65_535, 360)] {
            assert_eq!(lasts(growing(), rate), until, "{rate} bytes a second");
        }
        assert_eq!(lasts(growing(), 100 << 10), 100_000, "an honest slow line");
        assert_eq!(lasts(Pace::new(seconds(10), 1_024), 1_024), 100_000, "an answer has as long as it takes");
        // Whoever keeps exactly the least rate has sent all that is taken.
        let (mut pace, mut sent) = (growing(), 0);
        let windows = (0..)
            .take_while(|_| {
                let bytes = usize::try_from(10 * pace.least_rate()).unwrap();
                assert_eq!(pace.count(bytes, seconds(10)), Ok(()));
                sent += bytes;
                sent < 108 << 20
            })
            .count();
        assert!((33 * 6..34 * 6).contains(&windows), "{windows} windows of ten seconds");
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
