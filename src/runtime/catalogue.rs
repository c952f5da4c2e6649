//! All runtimes of a server, and the rules that hold between them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use crate::runtime::{Runtime, folders, manifest};

/// All runtimes this server offers.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// By name, the newest version of each first.
    runtimes: Vec<Arc<Runtime>>,
}

/// A catalogue that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{runtime}: {message}")]
pub struct CatalogueError {
    /// The folder or file.
    pub runtime: String,
    /// What is wrong with it.
    pub message: String,
}

impl CatalogueError {
    pub(super) fn new(path: &Path, message: impl ToString) -> Self {
        Self { runtime: path.display().to_string(), message: message.to_string() }
    }
}

impl Catalogue {
    /// The runtimes that are built into the binary, and those in `folder`, which win: over the built-in folder of the
    /// same name as a whole.
    ///
    /// # Errors
    /// The first folder that is not a runtime, with the file and field that are wrong, or two runtimes that claim the
    /// same name, alias or extension.
    pub fn load(folder: Option<&Path>) -> Result<Self, CatalogueError> {
        let (mut runtimes, mut based) = (Vec::new(), Vec::new());
        for (name, files) in folders::read(folder)? {
            match manifest::read(files).map_err(|message| fault(&name, message))? {
                (runtime, None) => runtimes.push((name, runtime)),
                (runtime, Some(base)) => based.push((name, runtime, base)),
            }
        }
        put_on_bases(&mut runtimes, based)?;
        check_claims(&runtimes)?;
        Ok(Self::of(runtimes.into_iter().map(|(_, runtime)| Arc::new(runtime)).collect()))
    }

    fn of(mut runtimes: Vec<Arc<Runtime>>) -> Self {
        runtimes.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| b.semver().cmp(&a.semver())));
        Self { runtimes }
    }

    /// All of them, by name, the newest version of each first.
    #[must_use]
    pub fn runtimes(&self) -> &[Arc<Runtime>] {
        &self.runtimes
    }

    /// The versions of a language, newest first.
    pub(super) fn versions(&self, language: &str) -> impl Iterator<Item = &Arc<Runtime>> {
        self.runtimes.iter().filter(move |runtime| runtime.name == language)
    }
}

/// Finds the bases of those that have one. A base has none itself: that is enough, and can't be a circle.
fn put_on_bases(
    runtimes: &mut Vec<(String, Runtime)>,
    based: Vec<(String, Runtime, String)>,
) -> Result<(), CatalogueError> {
    let bases = Catalogue::of(runtimes.iter().map(|(_, runtime)| Arc::new(runtime.clone())).collect());
    for (folder, runtime, base) in based {
        let missing =
            |_| fault(&folder, format!("runtime.toml: base: `{base}` is no runtime that has no base itself"));
        let base = bases.resolve(&base).map_err(missing)?;
        let lint = if runtime.lint.is_empty() { base.lint.clone() } else { runtime.lint.clone() };
        let install = runtime.install.clone().or_else(|| base.install.clone());
        let hints = if runtime.hints.is_empty() { base.hints.clone() } else { runtime.hints.clone() };
        runtimes.push((folder, Runtime { base: Some(base), lint, hints, install, ..runtime }));
    }
    Ok(())
}

fn fault(folder: &str, message: String) -> CatalogueError {
    CatalogueError { runtime: format!("images/{folder}"), message }
}

/// A name or extension leads to one language, and a language has each version once. A variant shares its base's
/// extensions.
fn check_claims(runtimes: &[(String, Runtime)]) -> Result<(), CatalogueError> {
    let mut claims: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for (folder, runtime) in runtimes {
        let names = std::iter::once(&runtime.name).chain(&runtime.aliases);
        let languages = names.map(|name| (format!("the name `{name}`"), runtime.name.as_str()));
        let shared = runtime.base.as_ref().map_or(&[][..], |base| &base.extensions);
        let extensions = runtime.extensions.iter().filter(|extension| !shared.contains(extension));
        let extensions = extensions.map(|name| (format!("the extension `{name}`"), runtime.name.as_str()));
        let version = (format!("{} at {}", runtime.name, runtime.semver()), folder.as_str());
        for (what, owner) in languages.chain(extensions).chain([version]) {
            let taken = |other: &str| {
                fault(folder, format!("runtime.toml: {what} is taken by images/{other} already"))
            };
            match claims.entry(what.clone()) {
                Entry::Vacant(entry) => drop(entry.insert((owner, folder))),
                Entry::Occupied(entry) if entry.get().0 != owner => return Err(taken(entry.get().1)),
                Entry::Occupied(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runtimes of these names, versions, aliases and extensions.
    pub(in crate::runtime) fn catalogue_of(of: &[(&str, &str, &[&str], &[&str])]) -> Catalogue {
        Catalogue::of(of.iter().map(|args| Arc::new(runtime(args))).collect())
    }

    fn runtime((name, version, aliases, extensions): &(&str, &str, &[&str], &[&str])) -> Runtime {
        let manifest = format!(
            "name = {name:?}\nversion = {version:?}\naliases = {aliases:?}\nextensions = {extensions:?}\nrun = [\"x\"]"
        );
        let files = [("runtime.toml", manifest.as_str()), ("Dockerfile", "FROM scratch")];
        manifest::read(files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into())
            .unwrap()
            .0
    }

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_built_in_runtimes_are_whole() {
        let catalogue = Catalogue::load(None).unwrap();
        for runtime in catalogue.runtimes() {
            let base = runtime.base.as_ref().unwrap_or(runtime).base_image().unwrap();
            assert!(
                ["debian:trixie-slim", "debian:bookworm-slim"].contains(&base.as_str()),
                "{}: {base}",
                runtime.name
            );
            for path in [".execbox/apt-install", ".execbox/seal"] {
                assert!(runtime.context.contains_key(path), "{} lacks {path}", runtime.name);
            }
        }
    }

    #[test]
    fn a_full_heap_is_known_by_its_code_and_words_together() {
        const V8: &str = "<--- Last few GCs --->\n\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap \
                          out of memory\n----- Native stack trace -----\n";
        const JVM: &str = "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space\n\tat Main.main(Main.java:5)\n";
        const NO_THREAD: &str =
            "Exception in thread \"main\" java.lang.OutOfMemoryError: unable to create native thread\n";
        let catalogue = Catalogue::load(None).unwrap();
        for (language, exit_code, text, full) in [
            ("node", 134, V8, true),
            ("typescript", 134, V8, true),
            ("node", 0, V8, false),
            ("node", 1, V8, false),
            ("node", 134, "Aborted", false),
            ("java", 1, JVM, true),
            ("kotlin", 1, JVM, true),
            ("java", 2, JVM, false),
            ("java", 1, NO_THREAD, false),
            ("java", 1, "it said: java.lang.OutOfMemoryError: Java heap space", false),
            ("python", 1, JVM, false),
        ] {
            let runtime = catalogue.runtimes().iter().find(|runtime| runtime.name == language).unwrap();
            assert_eq!(runtime.has_full_heap(exit_code, text), full, "{language}, {exit_code}: {text}");
        }
    }

    #[test]
    fn a_folder_on_disk_adds_runtimes_and_wins() {
        let folder = tempfile::tempdir().unwrap();
        let lua =
            "name = \"lua\"\nversion = \"5.4\"\nextensions = [\"lua\"]\nrun = [\"lua\", \"{entrypoint}\"]";
        let bash = "name = \"bash\"\nversion = \"6\"\nrun = [\"bash\", \"{entrypoint}\"]";
        write(
            folder.path(),
            &[
                ("README", "no runtime"),
                ("lua/runtime.toml", lua),
                ("lua/Dockerfile", "FROM alpine"),
                ("lua/lib/a/b.lua", "--"),
                ("bash/runtime.toml", bash),
                ("bash/Dockerfile", "FROM alpine"),
                ("_drafts/x", "no runtime"),
            ],
        );
        let catalogue = Catalogue::load(Some(folder.path())).unwrap();
        let lua = catalogue.resolve("lua").unwrap();
        let context: Vec<_> = lua.context.keys().map(String::as_str).collect();
        assert_eq!(
            context,
            [
                ".execbox/apt-install",
                ".execbox/maven",
                ".execbox/seal",
                ".execbox/wheel",
                "Dockerfile",
                "lib/a/b.lua"
            ]
        );
        let bash: Vec<_> = catalogue.versions("bash").map(|runtime| runtime.version.as_str()).collect();
        assert_eq!(bash, ["6"]);
        assert!(catalogue.resolve("python").is_ok());
    }

    /// A folder of runtimes: names, and the lines that are added to what each must say.
    fn folder_of(of: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, lines) in of {
            let manifest = format!("name = {name:?}\nversion = \"1\"\nrun = [\"x\"]\n{lines}\n");
            let files = [(format!("{name}/runtime.toml"), manifest.as_str())];
            let dockerfile = (format!("{name}/Dockerfile"), "ARG EXECBOX_BASE\nFROM $EXECBOX_BASE");
            let files = files.iter().chain([&dockerfile]);
            write(folder.path(), &files.map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
        }
        folder
    }

    #[test]
    fn a_variant_stands_on_its_base_and_is_chosen_by_name_only() {
        let folder = folder_of(&[("pydata", "base = \"python@3.13\"\nextensions = [\"py\"]")]);
        let catalogue = Catalogue::load(Some(folder.path())).unwrap();
        let (pydata, python) =
            (catalogue.resolve("pydata").unwrap(), catalogue.resolve("python@3.13").unwrap());
        assert_eq!(pydata.base_image(), Some(python.image_name()));
        assert!(pydata.is_variant());
        assert_eq!(catalogue.of_file("a.py").unwrap().name, "python");
    }

    #[test]
    fn a_base_must_be_there_and_have_none_itself() {
        for (base, says) in
            [("nothing", "base: `nothing`"), ("two", "base: `two`"), ("one@2", "base: `one@2`")]
        {
            let base = format!("base = {base:?}");
            let folder = folder_of(&[("one", ""), ("two", "base = \"one\""), ("three", &base)]);
            let error = Catalogue::load(Some(folder.path())).unwrap_err().to_string();
            assert!(error.starts_with("images/three: runtime.toml: ") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_fault_on_disk_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("lua/runtime.toml", "name = 1"), ("lua/Dockerfile", "FROM alpine")]);
        let error = Catalogue::load(Some(folder.path())).unwrap_err().to_string();
        assert!(error.starts_with("images/lua: runtime.toml: "), "{error}");

        let error = Catalogue::load(Some(&folder.path().join("gone"))).unwrap_err();
        assert!(error.runtime.ends_with("gone"), "{error}");
    }

    #[test]
    fn a_name_leads_to_one_language_and_a_version_to_one_folder() {
        let x = ("x", "1.2", &["ex"][..], &["xx"][..]);
        for (other, clash) in [
            (("x", "1.3", &["ex"][..], &["xx"][..]), None),
            (("y", "1.2", &["ey"], &["yy"]), None),
            (("x", "1.2.0", &[], &[]), Some("x at 1.2.0")),
            (("y", "1", &["ex"], &[]), Some("the name `ex`")),
            (("y", "1", &["x"], &[]), Some("the name `x`")),
            (("ex", "1", &[], &[]), Some("the name `ex`")),
            (("y", "1", &[], &["xx"]), Some("the extension `xx`")),
        ] {
            let runtimes = [("a".to_owned(), runtime(&x)), ("b".to_owned(), runtime(&other))];
            let error = check_claims(&runtimes).err().map(|error| error.to_string());
            let expected =
                clash.map(|what| format!("images/b: runtime.toml: {what} is taken by images/a already"));
            assert_eq!(error, expected, "{other:?}");
        }
    }
}
