//! How many executions of a kind come in a burst: what is warm covers the busiest second of the last minute.

use std::time::Duration;

use tokio::time::Instant;

/// A burst: about what it takes to make as many containers as one has processors.
const BURST: Duration = Duration::from_secs(1);
/// How long a burst is remembered.
const MEMORY: Duration = Duration::from_mins(1);

/// The busiest burst of late.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// The burst that began last, and what came in it.
    burst: Option<(Instant, usize)>,
    /// The busiest one, and when it was reached last.
    busiest: Option<(Instant, usize)>,
}

impl Demand {
    pub(super) fn count(&mut self, now: Instant) {
        let burst = match self.burst {
            Some((began, count)) if now < began + BURST => (began, count + 1),
            _ => (now, 1),
        };
        self.burst = Some(burst);
        if burst.1 >= self.peak(now) {
            self.busiest = Some((now, burst.1));
        }
    }

    /// Executions in the busiest burst that is remembered.
    pub(super) fn peak(&self, now: Instant) -> usize {
        self.busiest.filter(|(reached, _)| now < *reached + MEMORY).map_or(0, |(_, count)| count)
    }
}
