#![no_main]
//! Seeds are in `fuzz/seeds/archive`: `cargo +nightly fuzz run archive fuzz/corpus/archive fuzz/seeds/archive`.

mod body {
    include!("../bodies/archive.rs");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::archive(bytes));
