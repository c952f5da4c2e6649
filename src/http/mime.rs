//! What kind of content a file's name promises.

/// Endings that the general table lacks, or knows as something else.
const OURS: &[(&[&str], &str)] = &[
    (&["arrow", "feather"], "application/vnd.apache.arrow.file"),
    (&["go", "hs", "jl", "lua", "pl", "r", "rb", "sql", "tsx"], "text/plain"),
    (&["h5", "hdf5"], "application/x-hdf5"),
    (&["ipynb"], "application/x-ipynb+json"),
    (&["jsonl", "ndjson"], "application/x-ndjson"),
    // Elsewhere a stream of video.
    (&["cts", "mts", "ts"], "text/plain"),
    (&["sqlite", "sqlite3"], "application/vnd.sqlite3"),
    (&["tab"], "text/tab-separated-values"),
    (&["zst"], "application/zstd"),
];

/// Of a path, by its ending; `application/octet-stream` where that tells nothing.
pub(super) fn of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let ours = OURS.iter().find(|(endings, _)| endings.contains(&ending.as_str()));
    ours.map_or_else(
        || mime_guess::from_path(path).first_or_octet_stream().to_string(),
        |(_, mime)| (*mime).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn files_that_programs_leave_are_known() {
        for (path, mime) in [
            ("plot_1.png", "image/png"),
            ("out/report.pdf", "application/pdf"),
            ("a.b/table.CSV", "text/csv"),
            ("table.tsv", "text/tab-separated-values"),
            ("table.parquet", "application/vnd.apache.parquet"),
            ("book.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            ("notes.ipynb", "application/x-ipynb+json"),
            ("rows.jsonl", "application/x-ndjson"),
            ("src/main.ts", "text/plain"),
            ("main.R", "text/plain"),
            ("summary.json", "application/json"),
            ("a.sqlite", "application/vnd.sqlite3"),
            ("no_ending", "application/octet-stream"),
            (".ts/none", "application/octet-stream"),
            ("model.pkl", "application/octet-stream"),
        ] {
            assert_eq!(of(path), mime, "{path}");
        }
    }
}
