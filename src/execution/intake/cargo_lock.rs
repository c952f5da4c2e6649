//! `Cargo.lock`, read by ourselves: names and versions of crates of the public registry, each with its hash.
//!
//! What the installer gets is a list written anew: without addresses, and without the project's own packages.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::execution::intake::cargo_manifest;
use crate::runtime::{Install, shown};

/// Packages in a lock.
const MAX_PACKAGES: usize = 2_000;
/// Bytes of a version.
const MAX_VERSION: usize = 100;
/// The public registry, as cargo writes it whichever index it reads, and whatever stands in for that.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Lock {
    version: Option<u64>,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// The same in one form: lines of name, version and sha256, sorted; and what the manifest wants of those crates.
pub(super) fn canonical(
    install: &Install,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let [manifest, file] = [0, 1].map(|at| install.files.get(at).cloned().unwrap_or_default());
    let text = |name: &String| given.get(name).map_or("", String::as_str);
    let lock: Lock = toml::from_str(text(&file))
        .map_err(|error| format!("{file} is no lock of cargo's: {}", error.message()))?;
    let crates = crates(lock).map_err(|fault| format!("{file}: {fault}"))?;
    let lines = crates.into_iter().map(|((name, version), hash)| format!("{name} {version} {hash}\n"));
    let lines: String = lines.collect();
    let wanted = cargo_manifest::canonical(text(&manifest)).map_err(|fault| format!("{manifest} {fault}"))?;
    let wanted = if lines.is_empty() { String::new() } else { wanted };
    Ok(BTreeMap::from([(manifest, wanted), (file, lines)]))
}

/// Hashes by name and version.
fn crates(lock: Lock) -> Result<BTreeMap<(String, String), String>, String> {
    // Before 3 it was not said, and may be either of two.
    if let Some(version) = lock.version.filter(|version| !matches!(version, 3 | 4)) {
        return Err(format!("is of version {version}; 3 and 4 are taken"));
    }
    if lock.package.len() > MAX_PACKAGES {
        return Err(format!("has more than {MAX_PACKAGES} packages"));
    }
    let mut all = BTreeMap::new();
    // What comes from nowhere is the project's own.
    for package in lock.package.into_iter().filter(|package| package.source.is_some()) {
        let shown = format!("`{} {}`", shown(&package.name), shown(&package.version));
        let hash = hash(&package).map_err(|fault| format!("{shown} {fault}"))?;
        if all.insert((package.name, package.version), hash).is_some() {
            return Err(format!("{shown} is there twice"));
        }
    }
    Ok(all)
}

fn hash(package: &Package) -> Result<String, String> {
    if !is_name(&package.name) {
        return Err("has no name that a crate can have".to_owned());
    }
    if package.version.len() > MAX_VERSION || semver::Version::parse(&package.version).is_err() {
        return Err("has no version that a crate can have".to_owned());
    }
    if package.source.as_deref() != Some(SOURCE) {
        let source = package.source.as_deref().unwrap_or_default();
        return Err(format!("is from `{}`, and only crates of the public registry are taken", shown(source)));
    }
    match package.checksum.as_deref() {
        Some(hash) if is_hash(hash) => Ok(hash.to_owned()),
        _ => Err("has no sha256 `checksum`".to_owned()),
    }
}

/// A folder and a part of a URL are made of it.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_hash(hash: &str) -> bool {
    hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "49f1f14873335454500d59611f1cf4a4b0f786f9ac11f4312a78e4cf2566695b";
    const INDEX: &str = SOURCE;

    fn read(lock: &str) -> Result<String, String> {
        let rust = crate::runtime::Catalogue::load(None).unwrap().resolve("rust").unwrap();
        let given = [("Cargo.lock".to_owned(), lock.to_owned())];
        let mut files = canonical(rust.install.as_deref().unwrap(), given.into())?;
        Ok(files.remove("Cargo.lock").unwrap())
    }

    fn package(name: &str, version: &str, source: &str, hash: &str) -> String {
        format!(
            "[[package]]\nname = {name:?}\nversion = {version:?}\nsource = {source:?}\nchecksum = {hash:?}\n"
        )
    }

    #[test]
    fn what_remains_are_names_versions_and_hashes_in_one_order() {
        let own = "[[package]]\nname = \"mine\"\nversion = \"0.1.0\"\ndependencies = [\"b\"]\n";
        let a = package("a", "1.0.0", INDEX, HASH);
        let b = package("b_B", "2.0.1+c-1", INDEX, HASH);
        let older = package("a", "0.9.0-rc.1", INDEX, HASH);
        let expected = format!("a 0.9.0-rc.1 {HASH}\na 1.0.0 {HASH}\nb_B 2.0.1+c-1 {HASH}\n");
        for lock in [
            format!("# made by cargo\nversion = 4\n{own}{a}dependencies = [\"b_B\"]\n{b}{older}"),
            format!("version = 3\n{older}{b}{a}{own}[metadata]\nx = \"evil\"\n"),
            format!("{b}{older}{a}"),
        ] {
            assert_eq!(read(&lock).as_ref(), Ok(&expected), "{lock}");
        }
        assert_eq!(read(&format!("version = 4\n{own}")).unwrap(), "", "it needs nothing");
        assert_eq!(read("version = 4\n").unwrap(), "");
    }

    /// Case F01.
    #[test]
    fn f01_nothing_from_elsewhere_passes() {
        for source in [
            "git+https://github.com/rust-lang/crates.io-index",
            "git+https://a.example/a?tag=v1#0123456789abcdef",
            "registry+https://a.example/index",
            "registry+https://github.com/rust-lang/crates.io-index/../other",
            "sparse+https://index.example/",
            "http://index.example/",
            "path+file:///etc",
            "",
        ] {
            let error = read(&package("a", "1.0.0", source, HASH)).unwrap_err();
            assert!(error.starts_with("Cargo.lock: `a 1.0.0` is from `"), "{source}: {error}");
        }
    }

    #[test]
    fn names_versions_and_hashes_are_nothing_else() {
        let long = "a".repeat(65);
        for name in ["", "..", "../a", "a/b", "a.b", "-a", "1a", "a b", "a\nb", "a\"", "\u{e9}", &long] {
            let error = read(&package(name, "1.0.0", INDEX, HASH)).unwrap_err();
            assert!(error.contains("has no name"), "{name:?}: {error}");
        }
        let long = format!("1.0.0-{}", "a".repeat(MAX_VERSION));
        for version in
            ["", "1", "1.0", "1.0.0/../x", "../1.0.0", "1.0.0 ", "^1.0.0", "1.0.0\n", "v1.0.0", &long]
        {
            let error = read(&package("a", version, INDEX, HASH)).unwrap_err();
            assert!(error.contains("has no version"), "{version:?}: {error}");
        }
        for hash in ["", "49f1", &HASH.to_uppercase(), &HASH.replace("49", "..")] {
            let error = read(&package("a", "1.0.0", INDEX, hash)).unwrap_err();
            assert!(error.contains("`a 1.0.0` has no sha256"), "{hash:?}: {error}");
        }
        let without = format!("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = {INDEX:?}\n");
        assert!(read(&without).unwrap_err().contains("has no sha256"));
    }

    #[test]
    fn a_file_that_is_no_such_lock_is_refused() {
        let one = package("a", "1.0.0", INDEX, HASH);
        assert!(read(&format!("{one}{one}")).unwrap_err().contains("`a 1.0.0` is there twice"));
        let many: String =
            (0..=MAX_PACKAGES).map(|at| package("a", &format!("{at}.0.0"), INDEX, HASH)).collect();
        assert!(read(&many).unwrap_err().contains("more than 2000"));
        for (lock, says) in [
            ("version = 5\n", "of version 5"),
            ("version = 0\n", "of version 0"),
            ("version = '4'\n", "is no lock"),
            ("{}", "is no lock"),
            ("package = 1\n", "is no lock"),
            ("[[package]]\nname = \"a\"\n", "is no lock"),
        ] {
            let error = read(lock).unwrap_err();
            assert!(error.contains(says) && error.len() < 300, "{lock}: {error}");
        }
    }
}
