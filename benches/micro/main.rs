//! What the parts cost that every execution goes through, without HTTP, Engine or container: the archive reader, frames,
//! and the store with its group commit. `cargo bench --bench micro archive` takes one of them.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::unwrap_used, reason = "a measurement that can't be made ends")]

mod archive;
mod frames;
mod store;

fn main() {
    divan::main();
}
