//! The table, to read and to paste.

use crate::grid::{self, Grid};
use crate::samples::Samples;

/// Bytes in a megabyte.
pub(crate) const MB: f64 = 1e6;

const HEAD: [&str; 7] = ["measured", "median", "p95", "p99", "unit", "hold", ""];

/// Rows and the lines below them.
pub(crate) struct Table {
    machine: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// One line of it.
pub(crate) struct Row {
    name: String,
    value: f64,
    p95: Option<f64>,
    p99: Option<f64>,
    unit: &'static str,
    bound: Option<Bound>,
}

/// What a figure is held against.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    /// More than this is not held.
    pub(crate) fn at_most(&mut self, most: f64) {
        self.bound = Some(Bound::AtMost(most));
    }

    /// Less than this is not held.
    pub(crate) fn at_least(&mut self, least: f64) {
        self.bound = Some(Bound::AtLeast(least));
    }

    fn holds(&self) -> bool {
        self.bound.is_none_or(|bound| match bound {
            Bound::AtMost(most) => self.value <= most,
            Bound::AtLeast(least) => self.value >= least,
        })
    }

    fn cells(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or_else(String::new, grid::number);
        let verdict = self.bound.map_or("", |_| if self.holds() { "held" } else { "NOT HELD" });
        let bound = self.bound.map_or_else(String::new, |bound| match bound {
            Bound::AtMost(most) => format!("≤ {most}"),
            Bound::AtLeast(least) => format!("≥ {least}"),
        });
        vec![
            self.name.clone(),
            number(Some(self.value)),
            number(self.p95),
            number(self.p99),
            self.unit.to_owned(),
            bound,
            verdict.to_owned(),
        ]
    }
}

impl Table {
    pub(crate) fn new(machine: String) -> Self {
        Self { machine, rows: Vec::new(), notes: Vec::new() }
    }

    /// A line of percentiles.
    pub(crate) fn value(&mut self, name: &str, samples: &Samples, unit: &'static str) -> &mut Row {
        let name = format!("{name} (n = {})", samples.count());
        let (p95, p99) = (Some(samples.percentile(95)), Some(samples.percentile(99)));
        self.push(Row { name, value: samples.median(), p95, p99, unit, bound: None })
    }

    /// A line of one number.
    pub(crate) fn number(&mut self, name: &str, value: f64, unit: &'static str) -> &mut Row {
        self.push(Row { name: name.to_owned(), value, p95: None, p99: None, unit, bound: None })
    }

    fn push(&mut self, row: Row) -> &mut Row {
        let at = self.rows.len();
        self.rows.push(row);
        &mut self.rows[at]
    }

    /// No row is beyond its bound.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// For a terminal.
    pub(crate) fn plain(&self) -> String {
        self.grid().plain() + &self.below()
    }

    /// For a README.
    pub(crate) fn markdown(&self) -> String {
        self.grid().markdown() + &self.below()
    }

    fn grid(&self) -> Grid {
        let mut grid = Grid::new(&HEAD);
        self.rows.iter().for_each(|row| grid.row(row.cells()));
        grid
    }

    fn below(&self) -> String {
        let lines = std::iter::once(&self.machine).chain(&self.notes).filter(|line| !line.is_empty());
        lines.map(|line| format!("\n{line}\n")).collect()
    }
}

/// Exact below 2^53; nothing here comes near.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}
