#![no_main]
//! Seeds are in `fuzz/seeds/frames`: `cargo +nightly fuzz run frames fuzz/corpus/frames fuzz/seeds/frames`.

mod body {
    include!("../bodies/frames.rs");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::frames(bytes));
