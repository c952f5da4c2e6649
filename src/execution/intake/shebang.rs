//! A script without an extension says in its first line what runs it. The caller has to say it, too; the error says how.

use std::io;

use crate::archive::{EntryKind, Project};
use crate::execution::intake::IntakeError;
use crate::runtime::{Catalogue, shown};

/// Longest script that is looked into, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Most files without an extension that are looked into.
const MAX_FILES: usize = 8;

/// The same error; where a script without an extension is there, with the language that the script looks like. Blocks on
/// the disk where the project is in a file.
pub(super) fn explain(
    catalogue: &Catalogue,
    project: &Project,
    entrypoint: Option<&str>,
    error: IntakeError,
) -> io::Result<IntakeError> {
    if !matches!(error.code, "unknown_language" | "no_entrypoint") {
        return Ok(error);
    }
    let files = project.entries().iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let paths = files.map(|entry| entry.path.as_str());
    let paths: Vec<&str> = match entrypoint.map(|path| path.trim_start_matches("./")) {
        Some(named) => paths.filter(|path| *path == named).collect(),
        None => paths.filter(|path| !path.contains(['.', '/'])).take(MAX_FILES).collect(),
    };
    let contents = project.contents(&paths, MAX_BYTES)?;
    let found = contents.iter().find_map(|(path, content)| Some((path, first_line(content)?)));
    let Some((path, line)) = found else { return Ok(error) };
    let looks_like = interpreter(&line).and_then(|name| {
        let plain = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        [name, plain].into_iter().find_map(|name| catalogue.resolve(name).ok())
    });
    let Some(runtime) = looks_like else { return Ok(error) };
    let (path, line, name) = (shown(path), shown(&line), &runtime.name);
    let message = format!(
        "{}; `{path}` begins with `{line}`, which looks like {name}: set `language` to `{name}` and `entrypoint` to \
         `{path}`",
        error.message
    );
    Ok(IntakeError { message, ..error })
}

/// The line of a script that says what runs it.
fn first_line(content: &[u8]) -> Option<String> {
    if !content.starts_with(b"#!") {
        return None;
    }
    let line = content.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}

/// The name of the program that it names, which may be that of `env`.
fn interpreter(line: &str) -> Option<&str> {
    let mut words = line.trim_start_matches("#!").split_whitespace();
    let name = |word: &'_ str| word.rfind('/').map_or(0, |at| at + 1);
    let program = words.next()?;
    let program = &program[name(program)..];
    if program != "env" {
        return Some(program);
    }
    let word = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    Some(&word[name(word)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_found_in_the_first_line() {
        for (line, name) in [
            ("#!/bin/bash", Some("bash")),
            ("#! /usr/bin/perl -w", Some("perl")),
            ("#!/usr/bin/env python3", Some("python3")),
            ("#!/usr/bin/env -S A=1 /usr/local/bin/node --x", Some("node")),
            ("#!", None),
            ("#!/usr/bin/env", None),
        ] {
            assert_eq!(interpreter(line), name, "{line}");
        }
    }
}
