// What each target does with its bytes. Included by the targets and by a test of the crate (src/archive/tests), so that
// the bodies are run by every `cargo test` and can't rot.

use execbox::archive::{ArchiveError, ArchiveLimits, ArchiveReader, EntryKind, Project};
use execbox::runner::frame::{Decoder, HEADER, Kind};

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
            let content = std::fs::read(whole.spool()).unwrap();
            assert!(content == std::fs::read(pieces.spool()).unwrap());
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
    let (mut content, mut heads) = (0, 0);
    while let Some(frame) = decoder.next_frame().unwrap() {
        match frame.kind {
            Kind::Data => content += frame.payload.len() as u64,
            Kind::Dir | Kind::File => heads += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((decoder.pending(), content, heads), (0, announced, project.entries().len()));
}

/// Any bytes are frames or an error, whole or in pieces, and never more than came in.
pub(crate) fn frames(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let whole = decode(stream, stream.len().max(1));
    assert_eq!(whole, decode(stream, usize::from(*piece) + 1));
    let length: usize = whole.0.iter().map(|(_, payload)| payload.len() + HEADER).sum();
    assert!(length <= stream.len());
}

/// The frames, and whether they ended in an error.
fn decode(stream: &[u8], piece: usize) -> (Vec<(Kind, Vec<u8>)>, bool) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for bytes in stream.chunks(piece) {
        decoder.push(bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push((frame.kind, frame.payload.to_vec())),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
