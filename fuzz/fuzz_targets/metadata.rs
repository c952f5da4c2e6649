#![no_main]
//! Seeds are in `fuzz/seeds/metadata`: `cargo +nightly fuzz run metadata fuzz/corpus/metadata fuzz/seeds/metadata`.

mod body {
    include!("../bodies/metadata.rs");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::metadata(bytes));
