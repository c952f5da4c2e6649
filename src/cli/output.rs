//! The command line's own words: results to standard output, everything else to standard error.

use std::io::{self, Write as _};

/// Writes a result, all of it at once.
///
/// # Errors
/// The reader is gone, or the disk behind it is full.
pub(super) fn result(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes to standard error what a program wrote to its own.
///
/// # Errors
/// The reader is gone, or the disk behind it is full.
pub(super) fn error_bytes(bytes: &[u8]) -> io::Result<()> {
    io::stderr().lock().write_all(bytes)
}

/// A line for the person at the terminal. When nobody can read it there is nobody to tell.
pub(super) fn note(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// What went wrong, in the form that every command has.
pub(super) fn complaint(message: &str) {
    note(&format!("execbox: {message}"));
}

/// Rows in columns as wide as their widest cell, two spaces apart; the first row is the heading.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells_and_has_no_trailing_spaces() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = [row(&["NAME", "VERSION"]), row(&["python", "3.13"]), row(&["c", ""])];
        assert_eq!(table(&rows), "NAME    VERSION\npython  3.13\nc\n");
        assert_eq!(table(&[]), "");
    }
}
