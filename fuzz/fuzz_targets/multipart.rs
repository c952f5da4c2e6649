#![no_main]
//! Seeds are in `fuzz/seeds/multipart`: `cargo +nightly fuzz run multipart fuzz/corpus/multipart fuzz/seeds/multipart`.

mod body {
    include!("../bodies/multipart.rs");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::multipart(bytes));
