//! The real server over the real Engine. These tests fail, and do not skip, where there is no Engine.
//!
//! - [`examples`]: every project under `examples/`, sync and async.
//! - [`behaviours`]: every hostile project under `tests/fixtures/`, with the exact reason.
//! - [`profile`]: what `inspect` says of a container, field by field.
//! - [`probe`]: what a program in a container must not be able to do, and profiles that are loosened.
//! - [`profile_mutants`]: every field of the profile taken away, for `make mutants-profile`.
//! - [`output`]: nothing lost, nothing mixed up, many at a time.
//! - [`lifecycle`]: kill, drain, a server that dies, containers and images removed from outside.
//! - [`command_line`]: `execbox run` and the other commands.

#![allow(unreachable_pub, reason = "one binary, nobody else reaches it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "these are tests"
)]

mod behaviours;
mod command_line;
mod engine;
mod examples;
mod lifecycle;
mod output;
mod probe;
mod profile;
mod profile_mutants;
mod projects;
mod server;
