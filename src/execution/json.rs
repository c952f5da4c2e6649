//! JSON that a caller or a program made, kept as the text that it came as: with its order, its digits and its spaces.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON text that every reader can read: not nested deeper than 127, its numbers within the range of a double, its strings Unicode.
/// Far smaller in memory than a tree of values.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Checks a text.
    ///
    /// # Errors
    /// It is no JSON, or none that every reader can read.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        // A raw value is only known to have its brackets and quotes in the right places.
        serde_json::from_str::<Walked>(raw.get()).map_err(D::Error::custom)?;
        Ok(Self(raw))
    }
}

/// A value that was read to its end and dropped.
struct Walked;

impl<'de> Deserialize<'de> for Walked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Walked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Walked, A::Error> {
        while seq.next_element::<Walked>()?.is_some() {}
        Ok(Walked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Walked, A::Error> {
        while map.next_entry::<Walked, Walked>()?.is_some() {}
        Ok(Walked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_as_it_came() {
        for text in [
            "null",
            "[]",
            r#"{"b": 1, "a": [1.50, 123456789012345678901234567890]}"#,
            r#""\u00e4\ud83d\ude00""#,
            &format!("{}1{}", "[".repeat(127), "]".repeat(127)),
        ] {
            let json = Json::parse(text).unwrap();
            assert_eq!(json.get(), text);
            assert_eq!(serde_json::to_string(&json).unwrap(), text);
        }
    }

    #[test]
    fn what_some_reader_can_not_read_is_refused() {
        for text in [
            "",
            "NaN",
            "1e999",
            "-1e999",
            r#"["\ud800"]"#,
            "{1: 2}",
            "[1] 2",
            "[1,]",
            "\"a\nb\"",
            &format!("{}1{}", "[".repeat(128), "]".repeat(128)),
            &"[".repeat(1_000_000),
            &format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)),
        ] {
            assert!(Json::parse(text).is_err(), "{}", &text[..text.len().min(50)]);
        }
    }
}
