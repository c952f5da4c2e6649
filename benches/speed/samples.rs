//! Durations of one kind.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::Result;

/// Durations in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.add_ms(duration.as_secs_f64() * 1_000.0);
    }

    pub(crate) fn add_ms(&mut self, millis: f64) {
        self.0.push(millis);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that this many percent of all are not above; 0 where there is none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// The median, and the two percentiles that are told.
    pub(crate) fn percentiles(&self) -> [f64; 3] {
        [50, 95, 99].map(|percent| self.percentile(percent))
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// How long one operation takes.
pub(crate) async fn timed<T>(operation: impl Future<Output = Result<T>>) -> Result<(Duration, T)> {
    let began = Instant::now();
    let value = operation.await?;
    Ok((began.elapsed(), value))
}
