//! Sources of a project that its compiler does not get, by what stands in them: tests, and other programs that lie beside
//! the one that was chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use crate::archive::{Entry, Project};
use crate::execution::intake::start::Start;
use crate::runtime::{Catalogue, SourceKind};

/// Most of each source that is read, in bytes. What is longer is hardly a test or a small program.
const MAX_FILE_BYTES: usize = 256 << 10;
/// Most of all sources together that is read, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// Whether [`apart`] may have to read sources of this project, and so blocks on the disk.
pub(super) fn may_be_read(catalogue: &Catalogue, entries: &[Entry]) -> bool {
    let has_several = |runtime: &&std::sync::Arc<crate::runtime::Runtime>| {
        entries.iter().filter(|entry| runtime.has_extension(&entry.path)).nth(1).is_some()
    };
    catalogue.runtimes().iter().filter(|runtime| runtime.reads_sources()).any(|runtime| has_several(&runtime))
}

/// The sources that the compiler does not get. Blocks on the disk.
pub(super) fn apart(project: &Project, start: &Start) -> io::Result<BTreeSet<String>> {
    let Start { runtime, entrypoint, is_chosen } = start;
    if !runtime.reads_sources() {
        return Ok(BTreeSet::new());
    }
    let sources: BTreeSet<&str> =
        runtime.compiled_sources(project.entries(), entrypoint).into_iter().collect();
    if sources.len() < 2 {
        return Ok(BTreeSet::new());
    }
    let mut kinds: BTreeMap<String, SourceKind> = BTreeMap::new();
    let mut left = MAX_BYTES;
    let wanted = |path: &str, size: u64| {
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_FILE_BYTES);
        let is_read = sources.contains(path) && size <= left;
        left -= if is_read { size } else { 0 };
        is_read.then_some(size)
    };
    project.each_file(wanted, |path, content| {
        kinds.insert(path.to_owned(), runtime.sources.kind(&content));
        ControlFlow::Continue(())
    })?;
    let start = kinds.remove(entrypoint.as_str()).unwrap_or_default();
    let is_apart = |kind: &SourceKind| {
        // Where nobody chose one of several programs, the linker says so.
        kind.has_main && start.has_main && *is_chosen || kind.is_test && !start.is_test
    };
    Ok(kinds.into_iter().filter(|(_, kind)| is_apart(kind)).map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;

    const MAIN: &[u8] = b"#include \"a.h\"\nint main(void) { return 0; }\n";

    fn left_out(entrypoint: &str, is_chosen: bool, files: &[(&str, &[u8])]) -> Vec<String> {
        let spool = tempfile::tempdir().unwrap();
        let mut writer = ProjectWriter::new(spool.path(), Config::default().archive_limits()).unwrap();
        for (path, content) in files {
            writer.file(path, content.len() as u64, false).unwrap();
            writer.data(content).unwrap();
        }
        let runtime = Catalogue::load(None).unwrap().resolve("c").unwrap();
        let start = Start { runtime, entrypoint: entrypoint.into(), is_chosen };
        apart(&writer.finish().unwrap(), &start).unwrap().into_iter().collect()
    }

    #[test]
    fn other_programs_and_tests_are_left_out() {
        let files = [
            ("ex1.c", MAIN),
            ("ex2.c", MAIN),
            ("list.c", b"int list(void) { return 1; }\n"),
            ("check.c", b"#include <check.h>\n"),
            ("notes.txt", MAIN),
        ];
        assert_eq!(left_out("ex2.c", true, &files), ["check.c", "ex1.c"]);
        // The program starts elsewhere, or nobody chose one.
        assert_eq!(left_out("list.c", true, &files), ["check.c"]);
        assert_eq!(left_out("ex1.c", false, &files), ["check.c"]);
        assert_eq!(left_out("check.c", true, &files), [""; 0]);
    }

    #[test]
    fn sources_are_read_only_where_there_are_several() {
        let catalogue = Catalogue::load(None).unwrap();
        let kind = crate::archive::EntryKind::File { size: 1, executable: false };
        let project = |paths: &[&str]| -> Vec<Entry> {
            paths.iter().map(|path| Entry { path: (*path).into(), kind }).collect()
        };
        assert!(!may_be_read(&catalogue, &project(&["a.c", "b.cpp", "x.txt"])));
        assert!(!may_be_read(&catalogue, &project(&["a.py", "b.py"])));
        assert!(may_be_read(&catalogue, &project(&["a.c", "b.c"])));
    }
}
