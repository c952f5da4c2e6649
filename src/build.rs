//! Builds the crate again when a runtime's file comes or goes: the embedded `images/` are only watched file by file.

#![allow(clippy::print_stdout)]

fn main() {
    println!("cargo::rerun-if-changed=images");
}
