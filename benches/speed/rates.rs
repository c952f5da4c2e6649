//! Several callers: how many starts each second, by how many callers.

use std::time::Duration;

use crate::Result;
use crate::closed_loop::{self, Window};
use crate::contender::{Contender, Operation};
use crate::cpu::settle;
use crate::grid::{Grid, number};

/// Callers at once, for the server.
pub(crate) const CALLERS: [u32; 5] = [1, 2, 4, 8, 32];
/// The number of callers that figures are held at.
pub(crate) const MANY: u32 = 8;
/// Rounds: of each number of callers the better one counts, for what slows a round down is the rest of the machine.
const ROUNDS: usize = 2;
/// How long ends are counted.
const OPEN: Duration = Duration::from_millis(2_500);

/// One kind of start, with its numbers of callers.
pub(crate) struct Rate {
    pub(crate) name: &'static str,
    server: Option<u32>,
    callers: Vec<Operation>,
    pub(crate) windows: Vec<(u32, Window)>,
}

impl Rate {
    pub(crate) fn new(contender: &Contender<'_>, numbers: &[u32]) -> Result<Self> {
        let windows: Vec<_> = numbers.iter().map(|&number| (number, Window::default())).collect();
        let callers = contender.callers(numbers.iter().copied().max().unwrap_or(0))?;
        Ok(Self { name: contender.name, server: contender.server, callers, windows })
    }

    fn round(&mut self) -> Result<()> {
        for (callers, window) in &mut self.windows {
            let count = usize::try_from(*callers)?;
            window.merge(closed_loop::run(&mut self.callers[..count], OPEN, self.server)?);
            settle()?;
        }
        Ok(())
    }

    /// Through the server, not beside it.
    pub(crate) fn is_ours(&self) -> bool {
        self.server.is_some()
    }

    pub(crate) fn best(&self) -> f64 {
        self.windows.iter().map(|(_, window)| window.per_second).fold(0.0, f64::max)
    }

    pub(crate) fn of(&self, callers: u32) -> Option<&Window> {
        self.windows.iter().find_map(|(number, window)| (*number == callers).then_some(window))
    }
}

/// All rounds.
pub(crate) fn take(rates: &mut [Rate]) -> Result<()> {
    for round in 1..=ROUNDS {
        eprintln!("bench: many callers, round {round} of {ROUNDS}");
        rates.iter_mut().try_for_each(Rate::round)?;
    }
    Ok(())
}

pub(crate) fn grid(rates: &[Rate]) -> Grid {
    let head = [
        "many callers",
        "callers",
        "per second",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU of all, ms",
        "of the server",
        "of the callers",
    ];
    let mut grid = Grid::new(&head);
    for rate in rates {
        for (callers, window) in &rate.windows {
            let name = if rate.is_ours() { format!("execbox, {}", rate.name) } else { rate.name.to_owned() };
            let mut cells = vec![name, callers.to_string(), number(window.per_second)];
            cells.extend(window.latency.percentiles().map(number));
            cells.push(number(window.cpu_ms(|cpu| cpu.machine)));
            cells.push(rate.server.map_or_else(String::new, |_| number(window.cpu_ms(|cpu| cpu.server))));
            cells.push(number(window.cpu_ms(|cpu| cpu.callers)));
            grid.row(cells);
        }
    }
    grid
}
