//! Frames, as both sides speak them.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use execbox::runner::frame::{DATA_CHUNK, Decoder, Kind, encode};

/// Bytes of payload in all.
const BYTES: usize = 16 << 20;
/// What a read of the attached stream gives at once.
const READ: usize = 32 << 10;

fn encoded(chunk: usize) -> Vec<u8> {
    let (payload, mut out) = (vec![7; chunk], Vec::with_capacity(BYTES + BYTES / chunk * 8));
    for _ in 0..BYTES / chunk {
        encode(Kind::Stdout, black_box(&payload), &mut out);
    }
    out
}

#[divan::bench(args = [64, 4_096, DATA_CHUNK])]
fn encode_payloads_of(bencher: Bencher<'_, '_>, chunk: usize) {
    bencher.counter(BytesCount::new(BYTES)).bench(|| encoded(chunk));
}

#[divan::bench(args = [64, 4_096, DATA_CHUNK])]
fn decode_payloads_of(bencher: Bencher<'_, '_>, chunk: usize) {
    let stream = encoded(chunk);
    bencher.counter(BytesCount::new(BYTES)).bench(|| {
        let (mut decoder, mut bytes) = (Decoder::default(), 0);
        for piece in stream.chunks(READ) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                bytes += black_box(frame.payload).len();
            }
        }
        assert_eq!(bytes, BYTES);
    });
}
