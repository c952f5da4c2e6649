//! `Cargo.toml`, read for one thing only: which crates a project wants, with which features and settings, so that they can
//! be compiled before any project is.

use toml::{Table, Value};

/// Tables that say which crates are wanted, also for one platform.
const DEPENDENCIES: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
/// What makes a crate be from elsewhere than the public registry.
const ELSEWHERE: [&str; 6] = ["path", "git", "registry", "registry-index", "workspace", "base"];

/// A manifest with the same wishes, and nothing else of this one. Empty where it has none of the registry.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let given: Table =
        toml::from_str(text).map_err(|error| format!("is no manifest of cargo's: {}", error.message()))?;
    let mut wishes = wishes(&given);
    if wishes.is_empty() {
        return Ok(String::new());
    }
    let targets = given.get("target").and_then(Value::as_table).into_iter().flatten();
    let targets: Table = targets
        .filter_map(|(name, target)| Some((name.clone(), Value::Table(self::wishes(target.as_table()?)))))
        .collect();
    wishes.insert("target".to_owned(), Value::Table(targets));
    for table in ["features", "profile"] {
        if let Some(given) = given.get(table) {
            wishes.insert(table.to_owned(), given.clone());
        }
    }
    wishes.insert("package".to_owned(), Value::Table(package(&given)));
    // It stands alone, whatever is in the folders above.
    wishes.insert("workspace".to_owned(), Value::Table(Table::new()));
    toml::to_string(&wishes).map_err(|error| error.to_string())
}

/// Of the crates that are wanted, those of the registry.
fn wishes(given: &Table) -> Table {
    let mut wishes = Table::new();
    for name in DEPENDENCIES {
        let wanted = given.get(name).and_then(Value::as_table).into_iter().flatten();
        let is_elsewhere = |entry: &Table| ELSEWHERE.iter().any(|key| entry.contains_key(*key));
        let wanted: Table = wanted
            .filter(|(_, entry)| !entry.as_table().is_some_and(is_elsewhere))
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        if !wanted.is_empty() {
            wishes.insert(name.to_owned(), Value::Table(wanted));
        }
    }
    wishes
}

/// A package of our own, resolved as this one.
fn package(given: &Table) -> Table {
    let given = given.get("package").and_then(Value::as_table);
    let kept = ["edition", "resolver", "rust-version"].into_iter();
    let kept = kept.filter_map(|key| Some((key.to_owned(), given?.get(key)?.clone())));
    let own = [("name", "execbox"), ("version", "0.0.0")];
    kept.filter(|(_, value)| value.is_str())
        .chain(own.map(|(key, text)| (key.to_owned(), Value::from(text))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_are_crates_of_the_registry_features_and_settings() {
        let text = r#"
            [package]
            name = "mine"
            version = "1.2.3"
            edition = "2021"
            build = "/etc/passwd"
            [features]
            default = ["serde/derive"]
            [[bin]]
            name = "evil"
            path = "../../evil.rs"
            [dependencies]
            serde = { version = "1", features = ["rc"] }
            itoa = "1"
            own = { path = "../own", version = "1" }
            theirs = { git = "https://a.example/theirs" }
            [target.'cfg(unix)'.dependencies]
            libc = "0.2"
            [profile.release]
            lto = true
            [patch.crates-io]
            itoa = { path = "itoa" }
        "#;
        let expected = r#"[dependencies]
itoa = "1"

[dependencies.serde]
features = ["rc"]
version = "1"

[features]
default = ["serde/derive"]

[package]
edition = "2021"
name = "execbox"
version = "0.0.0"

[profile.release]
lto = true

[target."cfg(unix)".dependencies]
libc = "0.2"

[workspace]
"#;
        assert_eq!(canonical(text).as_deref(), Ok(expected));
        let renamed = text.replace("mine", "other").replace("1.2.3", "2.0.0");
        assert_eq!(canonical(&renamed).as_deref(), Ok(expected), "it is the same to crates");
    }

    #[test]
    fn one_that_wants_nothing_of_the_registry_is_nothing() {
        for text in [
            "",
            "[package]\nname = 'a'",
            "[workspace]\nmembers = ['a']",
            "[dependencies]\na = { path = 'a' }",
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(""), "{text}");
        }
        for text in ["{}", "[dependencies", "a"] {
            assert!(canonical(text).unwrap_err().starts_with("is no manifest"), "{text}");
        }
        // Whatever is of a wrong kind is cargo's to refuse.
        assert_eq!(canonical("dependencies = 1\ntarget = 2\npackage = 3").as_deref(), Ok(""));
    }
}
