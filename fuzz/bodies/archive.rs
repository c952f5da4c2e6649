// What the target does with its bytes. Included by the target and by a test of the crate (src/archive/tests), so that
// every `cargo test` runs it and it can't rot.

use execbox::archive::{ArchiveError, ArchiveLimits, ArchiveReader, EntryKind, Project};
use execbox::runner::frame::{Decoder, Kind};

const LIMITS: ArchiveLimits = ArchiveLimits { bytes: 1 << 20, entries: 100, depth: 8 };

/// The first byte says how the rest is cut into pieces; whole or in pieces, the archive must read the same, and what is
/// accepted must be within the limits, and whole.
pub(crate) fn archive(bytes: &[u8]) {
    let Some((piece, body)) = bytes.split_first() else { return };
    let spool = tempfile::tempdir().unwrap();
    let whole = read(spool.path(), body, body.len().max(1));
    let pieces = read(spool.path(), body, usize::from(*piece) + 1);
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            let content = whole.frames().read().unwrap();
            assert!(content == pieces.frames().read().unwrap());
            check_project(&whole, &content);
        }
        (Err(ArchiveError::Refused { code: a, .. }), Err(ArchiveError::Refused { code: b, .. })) => assert_eq!(a, b),
        (whole, pieces) => panic!("whole: {whole:?}, in pieces: {pieces:?}"),
    }
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

fn read(spool: &std::path::Path, body: &[u8], piece: usize) -> Result<Project, ArchiveError> {
    let mut reader = ArchiveReader::new(spool, LIMITS)?;
    for bytes in body.chunks(piece) {
        reader.push(bytes)?;
    }
    reader.finish()
}

fn check_project(project: &Project, spooled: &[u8]) {
    let mut announced = 0;
    for entry in project.entries() {
        let path = &entry.path;
        assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
        assert!(!path.contains(char::is_control) && !path.contains('\\'), "{path:?}");
        if let EntryKind::File { size, .. } = entry.kind {
            announced += size;
        }
    }
    assert_eq!(announced, project.bytes());
    assert!(announced <= LIMITS.bytes && project.entries().len() as u64 <= LIMITS.entries);
    let mut decoder = Decoder::default();
    decoder.push(spooled);
    let (mut content, mut heads, mut links) = (0, 0, 0);
    while let Some(frame) = decoder.next_frame().unwrap() {
        match frame.kind {
            Kind::Data => content += frame.payload.len() as u64,
            Kind::Dir | Kind::File => heads += 1,
            Kind::Link => links += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((decoder.pending(), content, heads), (0, announced, project.entries().len()));
    assert_eq!(heads as u64 + links, project.count());
    assert!(project.count() <= LIMITS.entries);
}
