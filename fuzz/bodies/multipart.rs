// What the target does with its bytes. Included by the target and by a test of the crate (src/http/tests), so that every
// `cargo test` runs it and it can't rot.

use execbox::config::Config;
use execbox::http::fuzzing::{Read, Reader};

/// Caps that a short input can reach.
const ARCHIVE_MB: u64 = 1;
const JSON_KB: u64 = 4;

/// The first byte says how the rest comes in pieces. Whole or in pieces, a multipart body (its boundary is `x`) gives the
/// same execution or is refused; what is accepted is within the caps, and nothing is left on disk.
pub(crate) fn multipart(bytes: &[u8]) {
    let Some((piece, body)) = bytes.split_first() else { return };
    let spool = tempfile::tempdir().unwrap();
    READER.with(|reader| {
        let whole = reader.multipart(vec![body.to_vec()], spool.path());
        let pieces = body.chunks(usize::from(*piece) + 1).map(<[u8]>::to_vec).collect();
        let pieces = reader.multipart(pieces, spool.path());
        match (&whole, &pieces) {
            (Read::Accepted { bytes, .. }, _) => {
                assert_eq!(whole, pieces);
                assert!(*bytes <= ARCHIVE_MB << 20);
            }
            // Which of two faults is met first may depend on the pieces.
            (Read::Refused { .. }, Read::Refused { .. }) => [whole, pieces].iter().for_each(check_refusal),
            _ => panic!("whole: {whole:?}, in pieces: {pieces:?}"),
        }
    });
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

/// A refusal is the caller's fault, and a sentence: not everything that was sent, back.
fn check_refusal(read: &Read) {
    let Read::Refused { code, detail } = read else { return };
    assert!((400..500).contains(&code.status()), "{code:?}: {detail}");
    assert!(detail.len() <= 2000, "{code:?}: {} bytes", detail.len());
}

thread_local! {
    static READER: Reader = {
        let mut config = Config::default();
        (config.request.archive_mb, config.request.json_kb) = (ARCHIVE_MB, JSON_KB);
        Reader::new(config).unwrap()
    };
}
