//! Time limits of tests, on machines that are slower than the ones they were written on.

/// By how much: `EXECBOX_TESTS_SLOWER`, which the Engine matrix sets in its emulated machine.
pub fn slower() -> u32 {
    #[allow(clippy::disallowed_methods, reason = "a test has no settings of its own")]
    let told = std::env::var("EXECBOX_TESTS_SLOWER");
    told.map_or(1, |text| text.parse().expect("EXECBOX_TESTS_SLOWER must be a whole number"))
}
