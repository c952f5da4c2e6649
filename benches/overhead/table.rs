//! The table, to read and to paste.

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
    limit: Option<f64>,
}

impl Row {
    /// More than this is over.
    pub(crate) fn at_most(&mut self, limit: f64) {
        self.limit = Some(limit);
    }

    fn cells(&self) -> [String; HEAD.len()] {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let verdict = self.limit.map_or("", |limit| if self.value <= limit { "ok" } else { "OVER" });
        [
            self.name.clone(),
            number(Some(self.value)),
            number(self.p95),
            number(self.p99),
            self.unit.to_owned(),
            self.limit.map_or_else(String::new, |limit| format!("≤ {limit}")),
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
        self.push(Row { name, value: samples.median(), p95, p99, unit, limit: None })
    }

    /// A line of one number.
    pub(crate) fn number(&mut self, name: &str, value: f64, unit: &'static str) -> &mut Row {
        self.push(Row { name: name.to_owned(), value, p95: None, p99: None, unit, limit: None })
    }

    fn push(&mut self, row: Row) -> &mut Row {
        let at = self.rows.len();
        self.rows.push(row);
        &mut self.rows[at]
    }

    /// No row is over its limit.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.limit.is_none_or(|limit| row.value <= limit))
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// For a terminal.
    pub(crate) fn plain(&self) -> String {
        self.render("  ", "", "")
    }

    /// For a README.
    pub(crate) fn markdown(&self) -> String {
        self.render(" | ", "| ", " |")
    }

    fn render(&self, between: &str, left: &str, right: &str) -> String {
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; HEAD.len()] = std::array::from_fn(|column| width(column).max(3));
        lines.insert(1, widths.map(|width| "-".repeat(width)));
        let mut text = String::new();
        for line in lines {
            let cells = std::array::from_fn::<_, { HEAD.len() }, _>(|column| {
                let (cell, width) = (&line[column], widths[column]);
                // Numbers to the right.
                if (1..=3).contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = format!("{left}{}{right}", cells.join(between));
            text.extend([line.trim_end(), "\n"]);
        }
        for note in std::iter::once(&self.machine).chain(&self.notes) {
            text.extend(["\n", note, "\n"]);
        }
        text
    }
}

/// Exact below 2^53; nothing here comes near.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}
