//! The path policy: which names a project may have, and how a name is shown to people.

use std::borrow::Cow;

use super::{ArchiveError, RefusalCode};

/// Longest component, as on every Linux file system.
const MAX_COMPONENT: usize = 255;
/// Longest path.
const MAX_PATH: usize = 4096;
/// First component that the runner keeps for itself.
const RESERVED: &str = ".execbox";
/// Characters of a name that a message shows.
const SHOWN: usize = 200;

/// The path policy, for names that come from anywhere: archives, inline files, artifacts. Gives the canonical path: a
/// leading `./` is dropped, everything else that is not canonical already is refused.
///
/// # Errors
/// Which rule the path breaks; `bad_path`.
pub fn check_path(path: &[u8], depth: usize) -> Result<String, ArchiveError> {
    let refused = |rule: Cow<'static, str>| {
        ArchiveError::refused(RefusalCode::BadPath, format!("the name {} {rule}", quoted(path)))
    };
    let text = std::str::from_utf8(path).map_err(|_| refused("is not valid UTF-8".into()))?;
    let relative = text.strip_prefix("./").unwrap_or(text);
    match broken_rule(relative, depth) {
        Some(rule) => Err(refused(rule)),
        None => Ok(relative.to_owned()),
    }
}

fn broken_rule(path: &str, depth: usize) -> Option<Cow<'static, str>> {
    if path.is_empty() {
        return Some("is empty".into());
    }
    if path.len() > MAX_PATH {
        return Some(format!("is longer than {MAX_PATH} bytes").into());
    }
    if path.starts_with('/') {
        return Some("is absolute; names are relative to the project".into());
    }
    if matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        return Some("starts with a drive letter; names are relative to the project".into());
    }
    if let Some(rule) = path.chars().find_map(broken_by_char) {
        return Some(rule.into());
    }
    if path.split('/').count() > depth {
        return Some(format!("is more than {depth} folders deep").into());
    }
    if path.split('/').next() == Some(RESERVED) {
        return Some(format!("is in {RESERVED}, which is reserved").into());
    }
    path.split('/').find_map(broken_by_component)
}

fn broken_by_char(c: char) -> Option<&'static str> {
    match c {
        '\\' => Some("has a backslash; use / between folders"),
        // They make a name look like another one.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some("has a character that reverses text"),
        c if c.is_control() => Some("has a control character"),
        _ => None,
    }
}

fn broken_by_component(component: &str) -> Option<Cow<'static, str>> {
    match component {
        "" => Some("has an empty component".into()),
        "." => Some("has a . component".into()),
        ".." => Some("has a .. component, which could leave the project".into()),
        long if long.len() > MAX_COMPONENT => {
            Some(format!("has a component longer than {MAX_COMPONENT} bytes").into())
        }
        _ => None,
    }
}

/// A name as messages show it: in quotes, escaped, and cut where it is long.
pub(super) fn quoted(name: &[u8]) -> String {
    let escaped: String = match std::str::from_utf8(name) {
        Ok(text) => text.escape_debug().take(SHOWN + 1).collect(),
        Err(_) => name.escape_ascii().map(char::from).take(SHOWN + 1).collect(),
    };
    match escaped.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}…\"", &escaped[..end]),
        None => format!("\"{escaped}\""),
    }
}
