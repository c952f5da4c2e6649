//! `package.json` and `package-lock.json`, read by ourselves: names and versions of packages of the registry, each with
//! its hash.
//!
//! What the installer gets is written anew: without addresses, scripts and whatever else the files can hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::runtime::{Install, shown};

/// Packages in a lock.
const MAX_PACKAGES: usize = 2_000;
/// Fields of package.json with packages, and what they may ask for.
const SECTIONS: [&str; 4] = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
/// Fields of a locked package that say what it needs, where it runs and whether it must.
const KEPT: [&str; 12] = [
    "version",
    "integrity",
    "dependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "dev",
    "optional",
    "devOptional",
    "peer",
    "os",
    "cpu",
];

/// The same in one form.
pub(super) fn canonical(
    install: &Install,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let [manifest, lock] = [0, 1].map(|at| install.files.get(at).cloned().unwrap_or_default());
    let read = |name: &String| -> Result<Map<String, Value>, String> {
        let text = given.get(name).map_or("", String::as_str);
        serde_json::from_str(text).map_err(|error| format!("{name} is no JSON object: {error}"))
    };
    let package = package(&read(&manifest)?).map_err(|fault| format!("{manifest}: {fault}"))?;
    let locked = locked(&read(&lock)?, &package).map_err(|fault| format!("{lock}: {fault}"))?;
    Ok(BTreeMap::from([(manifest, package.to_string()), (lock, locked.to_string())]))
}

/// What a package.json asks of the registry, and nothing else of it.
fn package(given: &Map<String, Value>) -> Result<Value, String> {
    for field in ["workspaces", "overrides", "bundleDependencies", "bundledDependencies"] {
        if given.contains_key(field) {
            return Err(format!("`{field}` is not taken"));
        }
    }
    let mut package =
        Map::from_iter([("name".to_owned(), json!("project")), ("version".to_owned(), json!("0.0.0"))]);
    for section in SECTIONS {
        if let Some(asked) = given.get(section) {
            package.insert(section.to_owned(), ranges(asked).map_err(|fault| format!("{section}: {fault}"))?);
        }
    }
    Ok(Value::Object(package))
}

/// Names with ranges of versions: nothing that is an address or a path.
fn ranges(asked: &Value) -> Result<Value, String> {
    let asked = asked.as_object().ok_or("is no object")?;
    for (name, range) in asked {
        let range = range.as_str().ok_or_else(|| format!("`{}` is no text", shown(name)))?;
        if !is_name(name) || !is_range(range) {
            return Err(format!(
                "`{}` asks for `{}`, which is no version in the registry",
                shown(name),
                shown(range)
            ));
        }
    }
    Ok(Value::Object(asked.clone()))
}

fn locked(given: &Map<String, Value>, package: &Value) -> Result<Value, String> {
    let version = given.get("lockfileVersion").and_then(Value::as_u64).unwrap_or(0);
    let packages = given.get("packages").and_then(Value::as_object);
    let Some(packages) = packages.filter(|_| matches!(version, 2 | 3)) else {
        return Err("is of a version that is not taken; make it anew with npm 7 or later".to_owned());
    };
    if packages.len() > MAX_PACKAGES {
        return Err(format!("has more than {MAX_PACKAGES} packages"));
    }
    let mut all = Map::new();
    for (path, entry) in packages {
        if path.is_empty() {
            all.insert(String::new(), package.clone());
        } else {
            let entry = entry_of(path, entry).map_err(|fault| format!("`{}` {fault}", shown(path)))?;
            all.insert(path.clone(), entry);
        }
    }
    Ok(
        json!({"name": "project", "version": "0.0.0", "lockfileVersion": 3, "requires": true, "packages": all}),
    )
}

fn entry_of(path: &str, entry: &Value) -> Result<Value, String> {
    let entry = entry.as_object().ok_or("is no object")?;
    let names = path.strip_prefix("node_modules/").map(|rest| rest.split("/node_modules/"));
    if !names.is_some_and(|mut names| names.all(is_name)) {
        return Err("is no package in node_modules".to_owned());
    }
    for field in ["link", "inBundle", "bundleDependencies", "bundled"] {
        if entry.contains_key(field) {
            return Err(format!("is not from the registry alone: it has `{field}`"));
        }
    }
    // An alias, or a package from elsewhere.
    if entry.get("name").is_some() {
        return Err("has a name of its own, which is not taken".to_owned());
    }
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
    if semver::Version::parse(text("version")).is_err() {
        return Err(format!("has `{}` where a version should be", shown(text("version"))));
    }
    let hashes: Vec<_> = text("integrity").split_whitespace().collect();
    if hashes.is_empty() || !hashes.iter().all(|hash| is_hash(hash)) {
        return Err("has no sha512 `integrity`".to_owned());
    }
    for section in ["dependencies", "optionalDependencies", "peerDependencies"] {
        if let Some(asked) = entry.get(section) {
            ranges(asked).map_err(|fault| format!("needs what is not taken: {fault}"))?;
        }
    }
    let kept = KEPT.into_iter().filter_map(|field| Some((field.to_owned(), entry.get(field)?.clone())));
    Ok(Value::Object(kept.collect()))
}

/// `name` or `@scope/name`.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        let first = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        first && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let parts: Vec<_> =
        name.strip_prefix('@').map_or_else(|| vec![name], |scoped| scoped.split('/').collect());
    let wanted = if name.starts_with('@') { 2 } else { 1 };
    name.len() <= 214 && parts.len() == wanted && parts.into_iter().all(plain)
}

/// Versions, operators and the words of tags: no colon, slash or `#`, without which there is no address.
fn is_range(range: &str) -> bool {
    range.len() <= 200
        && range.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" .<>=^~|*+-_".contains(&byte))
        && !range.starts_with('.')
        && !range.starts_with("~.")
        && !range.ends_with(".tgz")
}

fn is_hash(hash: &str) -> bool {
    let digest = hash.strip_prefix("sha512-");
    digest.is_some_and(|digest| {
        digest.len() == 88
            && digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==";

    fn read(manifest: &Value, lock: &Value) -> Result<BTreeMap<String, String>, String> {
        let node = crate::runtime::Catalogue::load(None).unwrap().resolve("node").unwrap();
        let files = [("package.json", manifest), ("package-lock.json", lock)];
        let given = files.map(|(name, value)| (name.to_owned(), value.to_string()));
        canonical(node.install.as_deref().unwrap(), given.into())
    }

    fn lock(path: &str, entry: &Value) -> Value {
        json!({"lockfileVersion": 3, "packages": {"": {}, path: entry}})
    }

    fn entry(field: &str, value: Value) -> Value {
        let mut entry = json!({"version": "1.0.0", "integrity": HASH});
        entry[field] = value;
        entry
    }

    #[test]
    fn what_remains_are_names_versions_and_hashes() {
        let manifest = json!({"name": "mine", "scripts": {"install": "evil"}, "dependencies": {"a": "^1"}});
        let given = entry("resolved", json!("https://evil.example/a.tgz"));
        let files = read(&manifest, &lock("node_modules/a", &given)).unwrap();
        let text = format!("{files:?}");
        assert!(!text.contains("evil") && !text.contains("mine"), "{text}");
        let locked: Value = serde_json::from_str(&files["package-lock.json"]).unwrap();
        assert_eq!(locked["packages"]["node_modules/a"], json!({"version": "1.0.0", "integrity": HASH}));
        assert_eq!(locked["packages"][""]["dependencies"], json!({"a": "^1"}));
    }

    /// Case F01.
    #[test]
    fn f01_nothing_from_elsewhere_passes() {
        let none = json!({});
        let fine = entry("dev", json!(true));
        for path in
            ["../a", "node_modules/../a", "a", "node_modules/a/b", "node_modules/@s", "/node_modules/a"]
        {
            assert!(read(&none, &lock(path, &fine)).is_err(), "{path}");
        }
        for path in ["node_modules/a", "node_modules/@s/a", "node_modules/a/node_modules/@s/b"] {
            assert!(read(&none, &lock(path, &fine)).is_ok(), "{path}");
        }
        for (field, value) in [
            ("version", json!("git+ssh://evil.example/a.git")),
            ("version", json!("file:../a")),
            ("version", json!(1)),
            ("integrity", json!("")),
            ("integrity", json!("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=")),
            ("integrity", json!(null)),
            ("link", json!(true)),
            ("inBundle", json!(true)),
            ("name", json!("other")),
            ("dependencies", json!({"b": "https://evil.example/b.tgz"})),
            ("optionalDependencies", json!({"b": "github:evil/b"})),
        ] {
            let entry = entry(field, value);
            assert!(read(&none, &lock("node_modules/a", &entry)).is_err(), "{entry}");
        }
        for range in [
            "git+https://x/y",
            "evil/b",
            "file:../b",
            "../b",
            "npm:other@1",
            "http://x/y.tgz",
            "~/b",
            "link:x",
        ] {
            assert!(
                read(&json!({"dependencies": {"b": range}}), &lock("node_modules/a", &fine)).is_err(),
                "{range}"
            );
        }
        for field in ["workspaces", "overrides", "bundleDependencies"] {
            assert!(read(&json!({field: {}}), &lock("node_modules/a", &fine)).is_err(), "{field}");
        }
        for lock in [json!({}), json!({"lockfileVersion": 1, "dependencies": {}}), json!([])] {
            assert!(read(&none, &lock).is_err(), "{lock}");
        }
    }
}
