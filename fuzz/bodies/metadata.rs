// What the target does with its bytes. Included by the target and by a test of the crate (src/http/tests), so that every
// `cargo test` runs it and it can't rot.

use execbox::config::Config;
use execbox::http::fuzzing::{Read, Reader};

/// A cap that a short input can reach.
const JSON_KB: u64 = 4;

/// The first byte says how the rest comes in pieces. Whole or in pieces, a JSON body gives the same execution or the same
/// refusal; a project is no larger than what it was written in, and nothing is left on disk.
pub(crate) fn metadata(bytes: &[u8]) {
    let Some((piece, body)) = bytes.split_first() else { return };
    let spool = tempfile::tempdir().unwrap();
    READER.with(|reader| {
        let whole = reader.json(vec![body.to_vec()], spool.path());
        let pieces = body.chunks(usize::from(*piece) + 1).map(<[u8]>::to_vec).collect();
        assert_eq!(whole, reader.json(pieces, spool.path()));
        match whole {
            Read::Accepted { bytes, .. } => assert!(bytes <= body.len() as u64),
            Read::Refused { code, detail } => {
                assert!((400..500).contains(&code.status()), "{code:?}: {detail}");
                assert!(detail.len() <= 2000, "{code:?}: {} bytes", detail.len());
            }
        }
    });
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

thread_local! {
    static READER: Reader = {
        let mut config = Config::default();
        config.request.json_kb = JSON_KB;
        Reader::new(config).unwrap()
    };
}
