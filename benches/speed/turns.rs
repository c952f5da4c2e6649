//! One caller: every kind of start has its turn in each round, so that a machine that gets slower gets slower for all.

use std::time::Duration;

use crate::Result;
use crate::contender::{Contender, Operation};
use crate::cpu::{Cpu, settle};
use crate::grid::{Grid, number};
use crate::samples::Samples;
use crate::table::float;

/// Rounds that count, after the warm-up.
const ROUNDS: usize = 10;
/// Operations of each turn in the round that is thrown away.
const WARM_UP: usize = 3;

/// One kind of start, and its turn in a round.
pub(crate) struct Turn {
    pub(crate) name: String,
    operation: Operation,
    /// Operations in a turn.
    count: usize,
    /// From the end of one to the beginning of the next: how often somebody calls who reads the answers.
    pause: Duration,
    server: Option<u32>,
    pub(crate) samples: Samples,
    cpu: Cpu,
}

impl Turn {
    pub(crate) fn new(contender: &Contender<'_>, name: &str, count: usize, pause: Duration) -> Result<Self> {
        let operation = contender.callers(1)?.pop().ok_or("no caller")?;
        let (samples, cpu) = (Samples::default(), Cpu::default());
        Ok(Self { name: name.to_owned(), operation, count, pause, server: contender.server, samples, cpu })
    }

    fn take(&mut self, count: usize) -> Result<()> {
        let before = Cpu::now(self.server)?;
        for _ in 0..count {
            std::thread::sleep(self.pause);
            self.samples.add((self.operation)()?);
        }
        settle()?;
        self.cpu.add(Cpu::now(self.server)?.since(before));
        Ok(())
    }

    fn cells(&self) -> Vec<String> {
        let count = self.samples.count();
        let each = |seconds: f64| number(seconds * 1_000.0 / float(count as u64));
        let mut cells = vec![self.name.clone(), count.to_string()];
        cells.extend(self.samples.percentiles().map(number));
        cells.push(each(self.cpu.machine));
        cells.push(self.server.map_or_else(String::new, |_| each(self.cpu.server)));
        cells
    }
}

/// All rounds.
pub(crate) fn take(turns: &mut [Turn]) -> Result<()> {
    for turn in &mut *turns {
        turn.take(WARM_UP)?;
        (turn.samples, turn.cpu) = Default::default();
    }
    for round in 1..=ROUNDS {
        eprintln!("bench: one caller, round {round} of {ROUNDS}");
        turns.iter_mut().try_for_each(|turn| turn.take(turn.count))?;
    }
    Ok(())
}

pub(crate) fn grid(turns: &[Turn]) -> Grid {
    let head = ["one caller, ms", "n", "p50", "p95", "p99", "CPU of all", "of the server"];
    let mut grid = Grid::new(&head);
    turns.iter().for_each(|turn| grid.row(turn.cells()));
    grid
}
