//! `Cargo.toml`, read for one thing only: which crates a project wants, with which features and settings, so that they can
//! be compiled before any project is.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Tables that say which crates are wanted, also for one platform.
const DEPENDENCIES: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
/// What makes a crate be from elsewhere than the public registry.
const ELSEWHERE: [&str; 6] = ["path", "git", "registry", "registry-index", "workspace", "base"];

/// A manifest with the same wishes, and nothing else of this one. Empty where it has none of the registry.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let given: Table =
        toml::from_str(text).map_err(|error| format!("is no manifest of cargo's: {}", error.message()))?;
    let shared = table(&given, &["workspace", "dependencies"]);
    let mut wishes = wishes(&given, shared);
    let targets = table(&given, &["target"]).into_iter().flatten();
    let targets = targets.filter_map(|(name, target)| Some((name, self::wishes(target.as_table()?, shared))));
    let targets = targets.filter(|(_, wishes)| !wishes.is_empty());
    let targets: Table = targets.map(|(name, wishes)| (name.clone(), wishes.into())).collect();
    if wishes.is_empty() && targets.is_empty() {
        return Ok(String::new());
    }
    wishes.insert("target".to_owned(), targets.into());
    wishes.insert("features".to_owned(), features(&given, &wishes).into());
    if let Some(profile) = given.get("profile") {
        wishes.insert("profile".to_owned(), profile.clone());
    }
    wishes.insert("package".to_owned(), package(&given).into());
    // It stands alone, whatever is in the folders above.
    wishes.insert("workspace".to_owned(), Table::new().into());
    toml::to_string(&wishes).map_err(|error| error.to_string())
}

fn table<'a>(given: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter().try_fold(given, |table, name| table.get(*name)?.as_table())
}

/// Of the crates that are wanted, those of the registry. `shared` is what a workspace says of them for all its members.
fn wishes(given: &Table, shared: Option<&Table>) -> Table {
    let mut wishes = Table::new();
    for section in DEPENDENCIES {
        let wanted = table(given, &[section]).into_iter().flatten();
        let wanted = wanted.filter_map(|(name, entry)| {
            let shared = shared.and_then(|shared| shared.get(name));
            Some((name.clone(), of_registry(entry, shared)?))
        });
        let wanted: Table = wanted.collect();
        if !wanted.is_empty() {
            wishes.insert(section.to_owned(), wanted.into());
        }
    }
    wishes
}

fn of_registry(entry: &Value, shared: Option<&Value>) -> Option<Value> {
    let Some(own) = entry.as_table() else { return Some(entry.clone()) };
    let mut whole = own.clone();
    if whole.remove("workspace").and_then(|inherits| inherits.as_bool()) == Some(true) {
        let shared = match shared? {
            Value::Table(shared) => shared.clone(),
            version => Table::from_iter([("version".to_owned(), version.clone())]),
        };
        for (key, value) in shared {
            match (whole.get_mut(&key), value) {
                (Some(Value::Array(features)), Value::Array(more)) => features.extend(more),
                (Some(_), _) => {}
                (None, value) => drop(whole.insert(key, value)),
            }
        }
    }
    (!ELSEWHERE.iter().any(|key| whole.contains_key(*key))).then_some(Value::Table(whole))
}

/// The project's features, without what they say of crates that are not among the wishes.
fn features(given: &Table, wishes: &Table) -> Table {
    let names = |given: &Table| -> BTreeSet<String> {
        let targets = table(given, &["target"]).into_iter().flatten();
        let places = targets.filter_map(|(_, target)| target.as_table()).chain([given]);
        let sections = places.flat_map(|place| DEPENDENCIES.map(|section| table(place, &[section])));
        sections.flatten().flat_map(|section| section.keys().cloned()).collect()
    };
    let (all, kept) = (names(given), names(wishes));
    let stands = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        let name = text.strip_prefix("dep:").unwrap_or(text).split('/').next().unwrap_or_default();
        let name = name.strip_suffix('?').unwrap_or(name);
        kept.contains(name) || !all.contains(name)
    };
    let features = table(given, &["features"]).into_iter().flatten();
    let features = features.filter_map(|(name, values)| {
        let values: Vec<_> = values.as_array()?.iter().filter(|value| stands(value)).cloned().collect();
        Some((name.clone(), Value::Array(values)))
    });
    features.collect()
}

/// A package of our own, resolved as this one.
fn package(given: &Table) -> Table {
    let own = table(given, &["package"]);
    let shared = table(given, &["workspace", "package"]);
    let kept = ["edition", "rust-version"].into_iter().filter_map(|key| {
        let text = |table: Option<&Table>| table?.get(key).filter(|value| value.is_str()).cloned();
        Some((key, text(own).or_else(|| text(shared))?))
    });
    let resolvers = [table(given, &["workspace"]), own];
    let resolver = resolvers.into_iter().find_map(|table| table?.get("resolver").cloned());
    kept.chain(resolver.map(|resolver| ("resolver", resolver)))
        .chain([("name", Value::from("execbox")), ("version", Value::from("0.0.0"))])
        .map(|(key, value)| (key.to_owned(), value))
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
            default = ["serde/derive", "own/loud", "small"]
            small = ["dep:theirs", "libc?/std"]
            [[bin]]
            name = "evil"
            path = "../../evil.rs"
            [dependencies]
            serde = { version = "1", features = ["rc"] }
            itoa = "1"
            own = { path = "../own", version = "1" }
            theirs = { git = "https://a.example/theirs" }
            [target.'cfg(unix)'.dependencies]
            libc = { version = "0.2", optional = true }
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
default = ["serde/derive", "small"]
small = ["libc?/std"]

[package]
edition = "2021"
name = "execbox"
version = "0.0.0"

[profile.release]
lto = true

[target."cfg(unix)".dependencies.libc]
optional = true
version = "0.2"

[workspace]
"#;
        assert_eq!(canonical(text).as_deref(), Ok(expected));
        let renamed = text.replace("mine", "other").replace("1.2.3", "2.0.0");
        assert_eq!(canonical(&renamed).as_deref(), Ok(expected), "it is the same to crates");
    }

    #[test]
    fn what_a_workspace_says_for_all_counts() {
        let text = r#"
            [workspace]
            members = ["own"]
            resolver = "3"
            [workspace.package]
            edition = "2024"
            [workspace.dependencies]
            itoa = "1"
            serde = { version = "1", features = ["rc"], default-features = false }
            own = { path = "own" }
            [package]
            edition.workspace = true
            [dependencies]
            itoa.workspace = true
            serde = { workspace = true, features = ["derive"] }
            own.workspace = true
            other.workspace = true
        "#;
        let wanted: Table = toml::from_str(&canonical(text).unwrap()).unwrap();
        let expected: Table = toml::from_str(
            r#"
            [workspace]
            [package]
            name = "execbox"
            version = "0.0.0"
            edition = "2024"
            resolver = "3"
            [dependencies]
            itoa = { version = "1" }
            serde = { version = "1", features = ["derive", "rc"], default-features = false }
            [features]
            [target]
        "#,
        )
        .unwrap();
        assert_eq!(wanted, expected);
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
        assert!(canonical("[target.'cfg(unix)'.dependencies]\na = '1'").unwrap().contains("a = \"1\""));
        for text in ["{}", "[dependencies", "a"] {
            assert!(canonical(text).unwrap_err().starts_with("is no manifest"), "{text}");
        }
        // Whatever is of a wrong kind is cargo's to refuse.
        assert_eq!(canonical("dependencies = 1\ntarget = 2\npackage = 3").as_deref(), Ok(""));
    }
}
