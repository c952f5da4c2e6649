//! Variables that look like settings and are none.

use crate::runtime::nearest;

/// What all settings' variables begin with.
const PREFIX: &str = "EXECBOX_";

/// Variables that are no settings: of the scripts and tests around this program, of image builds, and of programs in
/// containers, which may start it, too. `tests/it/variables.rs` holds that none is missing.
pub const NOT_SETTINGS: [&str; 15] = [
    "EXECBOX_BASE",
    "EXECBOX_BASE_IMAGE",
    "EXECBOX_CA",
    "EXECBOX_DOCKERD_ARGS",
    "EXECBOX_DOCKERD_LOG",
    "EXECBOX_DOCKERD_SECONDS",
    "EXECBOX_INPUT",
    "EXECBOX_JOB_ID",
    "EXECBOX_RESULTS",
    "EXECBOX_RESULT_FD",
    "EXECBOX_TESTS_REUSE",
    "EXECBOX_TESTS_SLOWER",
    "EXECBOX_TEST_ARCHIVES",
    "EXECBOX_TEST_SECONDS",
    "EXECBOX_VM_MINUTES",
];

/// A sentence for each variable of the environment that looks like a setting, and is none of these.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn unknown_variables(settings: &[String]) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<_> = names.filter_map(|name| complaint(&name, settings)).collect();
    unknown.sort_unstable();
    unknown
}

fn complaint(name: &str, settings: &[String]) -> Option<String> {
    let own = name.strip_prefix(PREFIX)?;
    if settings.iter().any(|known| known == name) || NOT_SETTINGS.contains(&name) {
        return None;
    }
    let known = settings.iter().filter_map(|known| known.strip_prefix(PREFIX));
    let meant =
        nearest(&own.to_uppercase(), known).first().map(|near| format!("did you mean {PREFIX}{near}?"));
    let meant = meant.unwrap_or_else(|| "`execbox serve --help` names all settings".to_owned());
    Some(format!("{name} is unknown; {meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_setting_is_unknown() {
        let settings = ["EXECBOX_LISTEN".to_owned(), "EXECBOX_LOG".to_owned()];
        let said = |name| complaint(name, &settings);
        for (name, sentence) in [
            ("EXECBOX_LISTN", "EXECBOX_LISTN is unknown; did you mean EXECBOX_LISTEN?"),
            ("EXECBOX_listen", "EXECBOX_listen is unknown; did you mean EXECBOX_LISTEN?"),
            ("EXECBOX_COLOUR", "EXECBOX_COLOUR is unknown; `execbox serve --help` names all settings"),
            ("EXECBOX_", "EXECBOX_ is unknown; `execbox serve --help` names all settings"),
        ] {
            assert_eq!(said(name).as_deref(), Some(sentence));
        }
        for fine in ["EXECBOX_LISTEN", "EXECBOX_DOCKERD_ARGS", "EXECBOX", "HOME"] {
            assert_eq!(said(fine), None, "{fine}");
        }
    }
}
