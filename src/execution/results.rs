//! What a program hands back beside its output: lines of JSON on the result channel. The program is a stranger, so is every
//! line; one that is no result is worth a notice and nothing more.
//!
//! - `{"result": "repr of the last expression"}`
//! - `{"return_value": any JSON}`
//! - `{"save": {"key": "name", "value": any JSON}}`

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::execution::json::Json;
use crate::runner::message::RESULT_BYTES;

/// Keys under which one program may save.
const MAX_KEYS: usize = 1_000;
/// Characters of a key.
const MAX_KEY: usize = 256;

/// What was handed back. Of several under one name, the last.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Handed {
    pub(super) result: Option<String>,
    pub(super) return_value: Option<Json>,
    pub(super) results: BTreeMap<String, Json>,
    /// Something was left out at a cap.
    pub(super) cut: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Result(Option<String>),
    ReturnValue(Json),
    Save(Save),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    key: String,
    value: Json,
}

/// Reads the channel. `cut` says that the program wrote more than was passed on.
pub(super) fn read(channel: &[u8], cut: bool, notices: &mut Vec<String>) -> Handed {
    let mut handed = Handed { cut, ..Handed::default() };
    // The last line of what was cut is a part of one.
    let whole =
        if cut { channel.iter().rposition(|byte| *byte == b'\n').unwrap_or(0) } else { channel.len() };
    let (mut strange, mut first_strange, mut crowd) = (0_usize, 0, 0_usize);
    for (at, line) in channel[..whole].split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(line) => crowd += usize::from(!handed.take(line)),
            Err(_) => {
                first_strange = if strange == 0 { at + 1 } else { first_strange };
                strange += 1;
            }
        }
    }
    handed.cut |= crowd > 0;
    if cut {
        notices.push(format!(
            "results: the program handed back more than {RESULT_BYTES} bytes; what came after them was left out"
        ));
    }
    if crowd > 0 {
        notices.push(format!(
            "results: {crowd} values were left out; there may be {MAX_KEYS} keys of 1 to {MAX_KEY} characters"
        ));
    }
    if strange > 0 {
        notices.push(format!(
            "results: {strange} lines that are no results were left out; the first is line {first_strange}"
        ));
    }
    handed
}

impl Handed {
    /// False for a key that there is no room for.
    fn take(&mut self, line: Line) -> bool {
        match line {
            Line::Result(result) => self.result = result,
            Line::ReturnValue(value) => self.return_value = Some(value),
            Line::Save(Save { key, value }) => {
                let fits = !key.is_empty() && key.chars().count() <= MAX_KEY;
                if !fits || (self.results.len() == MAX_KEYS && !self.results.contains_key(&key)) {
                    return false;
                }
                self.results.insert(key, value);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(channel: &[u8], cut: bool) -> (Handed, Vec<String>) {
        let mut notices = Vec::new();
        let handed = read(channel, cut, &mut notices);
        (handed, notices)
    }

    fn saved(handed: &Handed) -> Vec<(&str, &str)> {
        handed.results.iter().map(|(key, value)| (key.as_str(), value.get())).collect()
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let channel = br#"{"save": {"key": "a", "value": 1}}
{"result": "6 * 7"}
{"save": {"key": "b", "value": {"z": 1.50, "a": null}}}

{"return_value": [1]}
{"save": {"value": "two", "key": "a"}}
{"return_value": null}
{"result": "42"}"#;
        let (handed, notices) = read_all(channel, false);
        assert_eq!(handed.result.as_deref(), Some("42"));
        assert_eq!(handed.return_value.as_ref().map(Json::get), Some("null"));
        assert_eq!(saved(&handed), [("a", "\"two\""), ("b", r#"{"z": 1.50, "a": null}"#)]);
        assert_eq!((handed.cut, notices), (false, vec![]));
        assert_eq!(read_all(b"", false), (Handed::default(), vec![]));
        assert_eq!(read_all(b"{\"result\": null}\n", false).0, Handed::default());
    }

    #[test]
    fn strange_lines_are_counted_and_not_echoed() {
        let deep = format!(r#"{{"save": {{"key": "a", "value": {}}}}}"#, "[".repeat(50_000));
        let strange = [
            "\u{1b}[31mno json",
            "[]",
            "{}",
            "null",
            r#"{"result": 1}"#,
            r#"{"results": {"a": 1}}"#,
            r#"{"status": "completed"}"#,
            r#"{"result": "a", "exit_code": 0}"#,
            r#"{"save": {"key": "a"}}"#,
            r#"{"save": {"key": 1, "value": 1}}"#,
            r#"{"save": {"key": "a", "value": NaN}}"#,
            r#"{"save": {"key": "a", "value": 1e999}}"#,
            r#"{"save": {"key": "a", "value": 1, "more": 1}}"#,
            r#"{"return_value": "\ud800"}"#,
            &deep,
        ];
        let channel = format!("{{\"save\": {{\"key\": \"k\", \"value\": 1}}}}\n{}\n", strange.join("\n"));
        let mut channel = channel.into_bytes();
        channel.extend(b"\xff\xfe\n");
        let (handed, notices) = read_all(&channel, false);
        assert_eq!(saved(&handed), [("k", "1")]);
        assert_eq!(notices, ["results: 16 lines that are no results were left out; the first is line 2"]);
    }

    #[test]
    fn a_cut_channel_keeps_its_whole_lines() {
        let channel = b"{\"save\": {\"key\": \"a\", \"value\": 1}}\n{\"save\": {\"key\": \"b\", \"val";
        let (handed, notices) = read_all(channel, true);
        assert_eq!(saved(&handed), [("a", "1")]);
        assert!(handed.cut && notices.len() == 1 && notices[0].contains("1048576"), "{notices:?}");
        let (handed, _) = read_all(b"{\"result\": \"x", true);
        assert_eq!((handed.result, handed.cut), (None, true));
    }

    #[test]
    fn keys_are_short_and_not_too_many() {
        let save = |key: &str| format!("{{\"save\": {{\"key\": \"{key}\", \"value\": 1}}}}\n");
        let mut channel: String = (0..MAX_KEYS).map(|at| save(&at.to_string())).collect();
        let (handed, notices) = read_all(channel.as_bytes(), false);
        assert_eq!((handed.results.len(), handed.cut, notices.len()), (MAX_KEYS, false, 0));
        channel += &save("0");
        channel += &save("one more");
        let (handed, notices) = read_all(channel.as_bytes(), false);
        assert_eq!((handed.results.len(), handed.cut), (MAX_KEYS, true));
        assert!(notices[0].starts_with("results: 1 values were left out"), "{notices:?}");
        for (key, fits) in [("", false), (&"\u{e4}".repeat(256), true), (&"x".repeat(257), false)] {
            assert_eq!(read_all(save(key).as_bytes(), false).0.results.len(), usize::from(fits), "{key}");
        }
    }

    proptest! {
        /// Whatever a program writes, what is kept of it is JSON that reads back as it is.
        #[test]
        fn anything_may_be_written(
            pieces in prop::collection::vec(prop_oneof![
                Just(b"{\"save\": {\"key\": \"".to_vec()), Just(b"\", \"value\": ".to_vec()), Just(b"}}\n".to_vec()),
                Just(b"{\"return_value\": ".to_vec()), Just(b"{\"result\": \"".to_vec()), Just(b"\n".to_vec()),
                Just(b"[1e9, null, \"\\u00e4\"]".to_vec()), Just(b"}".to_vec()), prop::collection::vec(any::<u8>(), 0..6),
            ], 0..40),
            cut: bool,
        ) {
            let channel = pieces.concat();
            let (handed, notices) = read_all(&channel, cut);
            prop_assert!(notices.len() <= 3 && notices.iter().all(|notice| notice.len() < 200));
            let written = serde_json::to_string(&(&handed.results, &handed.return_value)).unwrap();
            let read: (BTreeMap<String, Json>, Option<Json>) = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(&read.0, &handed.results);
            let value = handed.return_value.filter(|value| value.get() != "null");
            prop_assert_eq!(read.1, value);
        }
    }
}
