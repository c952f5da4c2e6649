//! Projects packed with their folder around them, as the archives of forges are: they run as if packed one folder lower.

use std::io;

use crate::archive::{Contents, EntryKind};
use crate::execution::intake::{Submission, project_file};
use crate::runtime::Catalogue;

/// Takes the one folder on top for the project, unless the project starts from above it. Blocks on the disk where the
/// project is in a file.
pub(super) fn lower(catalogue: &Catalogue, submission: &mut Submission) -> io::Result<()> {
    let Some(folder) = submission.project.only_folder().map(str::to_owned) else { return Ok(()) };
    let prefix = format!("{folder}/");
    if starts_above(catalogue, submission, &prefix) {
        return Ok(());
    }
    submission.project.lower(&folder)?;
    if let Some(entrypoint) = &mut submission.entrypoint
        && let Some(inside) = entrypoint.trim_start_matches("./").strip_prefix(&prefix)
    {
        *entrypoint = inside.to_owned();
    }
    Ok(())
}

/// What the project says of itself is in the folder, or nothing is found from above; then it does not start there.
fn starts_above(catalogue: &Catalogue, submission: &Submission, prefix: &str) -> bool {
    let entries = submission.project.entries();
    let has_file = |path: &str| {
        entries.iter().any(|entry| entry.path == path && matches!(entry.kind, EntryKind::File { .. }))
    };
    if has_file(&format!("{prefix}{}", project_file::FILE)) {
        return false;
    }
    match submission.entrypoint.as_deref().map(|path| path.trim_start_matches("./")) {
        Some(named) => has_file(named) || !has_file(&format!("{prefix}{named}")),
        None => {
            let contents = Contents::new();
            let view = catalogue.view(entries, &contents);
            catalogue.has_usual_entrypoint(&view, submission.language.as_deref())
        }
    }
}
