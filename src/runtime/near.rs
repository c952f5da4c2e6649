//! Names that a person may have meant.

/// Longest name that is looked at; nothing that exists is longer.
pub(super) const MAX_LENGTH: usize = 64;
/// Names that are offered at most.
const OFFERED: usize = 3;

/// Names that a person may have meant by this one, best first, at most three.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if name.len() > MAX_LENGTH {
        return Vec::new();
    }
    let mut near: Vec<(usize, &str)> = names
        // As many slips as a word of this length may have and still be the same word.
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= (candidate.len() / 3).max(1))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(OFFERED).map(|(_, candidate)| candidate).collect()
}

/// The message of a TOML file's parser, with the key that may have been meant by one that is not known.
pub(crate) fn with_nearest_key(message: &str) -> String {
    let lines: Vec<_> =
        message.lines().map(|line| suggested(line).unwrap_or_else(|| line.to_owned())).collect();
    lines.join("\n")
}

/// What the parser says of a key that is not known is one line: the key, and those that are known, between backticks.
fn suggested(line: &str) -> Option<String> {
    let (key, known) = line.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    let near = nearest(&key.to_lowercase().replace('-', "_"), known.iter().copied());
    let meant = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let colon = if meant.is_empty() { "; known" } else { " Known" };
    Some(format!("unknown field `{key}`{meant}{colon} here: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_are_offered_and_far_ones_are_not() {
        let names = ["listen", "log", "log_json", "workers"];
        assert_eq!(nearest("listn", names.into_iter()), ["listen"]);
        assert_eq!(nearest("colour", names.into_iter()), [""; 0]);
        assert_eq!(nearest(&"l".repeat(65), names.into_iter()), [""; 0]);
    }

    #[test]
    fn an_unknown_key_is_told_with_the_one_that_was_meant() {
        let said = |text| with_nearest_key(text);
        assert_eq!(
            said("TOML parse error\nunknown field `entry-pont`, expected one of `args`, `entrypoint`"),
            "TOML parse error\nunknown field `entry-pont`; did you mean `entrypoint`? Known here: args, entrypoint"
        );
        assert_eq!(said("unknown field `x`, expected `args`"), "unknown field `x`; known here: args");
        assert_eq!(said("invalid type: map"), "invalid type: map");
    }
}
