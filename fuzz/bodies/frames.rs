// What the target does with its bytes. Included by the target and by a test of the crate (src/archive/tests), so that
// every `cargo test` runs it and it can't rot.

use execbox::runner::frame::{Decoder, HEADER, Kind};

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
