//! Cells in columns, to read and to paste.

/// A table of text. The first column is to the left, numbers are to the right.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new(head: &[&str]) -> Self {
        let head = head.iter().map(|&cell| cell.to_owned()).collect();
        Self { head, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
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
        let width = |column: usize| {
            let cells = std::iter::once(&self.head).chain(&self.rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut text = String::new();
        for line in [&self.head, &rule].into_iter().chain(&self.rows) {
            let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, &width)| aligned(cell, width)).collect();
            let line = format!("{left}{}{right}", cells.join(between));
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }
}

fn aligned(cell: &str, width: usize) -> String {
    if cell.parse::<f64>().is_ok() { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
}

/// A number as it is shown.
pub(crate) fn number(value: f64) -> String {
    format!("{value:.2}")
}
