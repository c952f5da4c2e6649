//! Several callers at once, each with its next operation as soon as the last is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::contender::Operation;
use crate::cpu::Cpu;
use crate::samples::Samples;
use crate::table::float;

/// Before the window opens: what was prepared while nobody called is used up by then.
const LEAD: Duration = Duration::from_millis(1_200);

/// What ended while the window was open.
#[derive(Default)]
pub(crate) struct Window {
    pub(crate) latency: Samples,
    pub(crate) per_second: f64,
    pub(crate) cpu: Cpu,
}

impl Window {
    /// Processor time of one operation, in milliseconds.
    pub(crate) fn cpu_ms(&self, of: impl Fn(Cpu) -> f64) -> f64 {
        of(self.cpu) * 1_000.0 / float(self.latency.count() as u64)
    }

    /// The better throughput of two; the latencies of both.
    pub(crate) fn merge(&mut self, other: Self) {
        self.per_second = self.per_second.max(other.per_second);
        self.cpu.add(other.cpu);
        self.latency.extend(other.latency);
    }
}

/// All callers at once, for as long as the window is open.
pub(crate) fn run(callers: &mut [Operation], open: Duration, server: Option<u32>) -> Result<Window> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            callers.iter_mut().map(|operation| scope.spawn(|| call(operation, &stop))).collect();
        std::thread::sleep(LEAD);
        let (began, before) = (Instant::now(), Cpu::now(server));
        std::thread::sleep(open);
        let (ended, after) = (Instant::now(), Cpu::now(server));
        stop.store(true, Ordering::Relaxed);
        let mut window = Window { cpu: after?.since(before?), ..Window::default() };
        for thread in threads {
            let ends = thread.join().map_err(|_| "a caller panicked")??;
            let inside = ends.into_iter().filter(|(end, _)| (began..=ended).contains(end));
            inside.for_each(|(_, took)| window.latency.add(took));
        }
        window.per_second = float(window.latency.count() as u64) / (ended - began).as_secs_f64();
        Ok(window)
    })
}

/// When each operation ended, and how long it took.
fn call(operation: &mut Operation, stop: &AtomicBool) -> Result<Vec<(Instant, Duration)>> {
    let mut ends = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let took = operation()?;
        ends.push((Instant::now(), took));
    }
    Ok(ends)
}
