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
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|millis| self.add_ms(millis));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that this many percent of all are not above; 0 where there is none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0.0)
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

/// Several callers at once, each with its next operation as soon as the last is done.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// Of each operation.
    pub(crate) latency: Samples,
    /// The best of all rounds: what slows a round down is the rest of the machine.
    pub(crate) best_per_second: f64,
}

impl Crowd {
    /// One round: `callers` with `each` operations. `operation` gets the caller's number.
    pub(crate) async fn round<F>(
        &mut self,
        callers: u32,
        each: u32,
        operation: impl Fn(u32) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let operation = &operation;
        let began = Instant::now();
        let loops = (0..callers).map(|caller| async move {
            let mut latency = Samples::default();
            for _ in 0..each {
                latency.add(timed(operation(caller)).await?.0);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latency)
        });
        let all = futures::future::try_join_all(loops).await?;
        let per_second = f64::from(callers * each) / began.elapsed().as_secs_f64();
        self.best_per_second = self.best_per_second.max(per_second);
        all.into_iter().for_each(|latency| self.latency.extend(latency));
        Ok(())
    }
}
