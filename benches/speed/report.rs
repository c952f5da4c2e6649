//! Everything that was found, in the order in which it is read: what is held, then what was measured.

use std::path::Path;

use crate::Result;
use crate::grid::Grid;
use crate::plot;
use crate::rates::{self, Rate};
use crate::table::{Row, Table};
use crate::turns::{self, Turn};

pub(crate) struct Report {
    pub(crate) machine: String,
    /// What is held to a bound.
    pub(crate) figures: Table,
    /// What the server occupies, and other single numbers.
    pub(crate) facts: Table,
    grids: Vec<Grid>,
    pub(crate) plot: plot::Data,
}

impl Report {
    pub(crate) fn new(machine: String) -> Self {
        let (figures, facts) = (Table::new(String::new()), Table::new(String::new()));
        Self { machine, figures, facts, grids: Vec::new(), plot: plot::Data::default() }
    }

    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &'static str) -> &mut Row {
        self.figures.number(name, value, unit)
    }

    pub(crate) fn one_caller(&mut self, turns: &[Turn]) {
        self.grids.push(turns::grid(turns));
        self.plot.latencies =
            turns.iter().map(|turn| (turn.name.clone(), turn.samples.percentiles())).collect();
    }

    pub(crate) fn many_callers(&mut self, rates: &[Rate]) {
        self.grids.push(rates::grid(rates));
        let points = |rate: &Rate| {
            let points = rate.windows.iter().map(|(callers, window)| (*callers, window.per_second)).collect();
            let ours = if rate.is_ours() { "execbox, " } else { "" };
            (format!("{ours}{}", rate.name), points)
        };
        self.plot.rates = rates.iter().map(points).collect();
    }

    pub(crate) fn holds(&self) -> bool {
        self.figures.holds() && self.facts.holds()
    }

    /// For a terminal.
    pub(crate) fn plain(&self) -> String {
        let mut parts = vec![self.machine.clone() + "\n", self.figures.plain()];
        parts.extend(self.grids.iter().map(Grid::plain));
        parts.push(self.facts.plain());
        parts.join("\n")
    }

    /// For a README.
    pub(crate) fn markdown(&self) -> String {
        let mut parts = vec![self.machine.clone() + "\n", self.figures.markdown()];
        parts.extend(self.grids.iter().map(Grid::markdown));
        parts.push(self.facts.markdown());
        parts.join("\n")
    }

    /// The plot, where all that it shows was measured.
    pub(crate) fn draw(&self, file: &Path) -> Result<bool> {
        let whole = !self.plot.latencies.is_empty() && !self.plot.rates.is_empty();
        if whole {
            plot::draw(&self.plot, &self.machine, file)?;
        }
        Ok(whole)
    }
}
