//! How a language installs packages: the `[install]` table of its `runtime.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::runtime::Runtime;
use crate::runtime::folders::Files;

/// Dockerfile of the image that installs, in the runtime's folder. It starts from the runtime's own image.
const DOCKERFILE: &str = "install.Dockerfile";
/// Folder in the runtime's with what that Dockerfile copies.
const FOLDER: &str = "install/";
/// What the name of an image that installs ends in, after the runtime's.
pub(crate) const INSTALLER: &str = "-install";
/// Word that stands for [`Install::prebuilt`] or [`Install::any`].
const KINDS: &str = "{kinds}";

/// How a language installs packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Files that say which packages, the one that `requirements_txt` means first. All of them are needed.
    pub files: Vec<String>,
    /// How their content is checked.
    pub check: Check,
    /// Argv of the installer, which starts in the folder with the files.
    pub run: Vec<String>,
    /// Argv of what compiles packages once they are there, without a network, in the same folder. Empty where nothing does.
    pub compile: Vec<String>,
    /// What `{kinds}` is where no code of packages may run.
    pub prebuilt: Vec<String>,
    /// What it is where that may.
    pub any: Vec<String>,
    /// The operator's name for its registry.
    pub registry: String,
    /// Environment of the installer.
    pub env: BTreeMap<String, String>,
    /// Environment of programs that use what was installed.
    pub programs: BTreeMap<String, String>,
    /// Files that make the image that installs out of the runtime's own, where that lacks the installer.
    pub image: BTreeMap<String, Vec<u8>>,
}

/// How the content of an installer's files is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Lines of `name==version`.
    Requirements,
    /// A `package.json` and its `package-lock.json`.
    NpmLock,
    /// A `Cargo.toml` and its `Cargo.lock`.
    CargoLock,
    /// R's `DESCRIPTION`.
    RDescription,
}

/// What the operator's settings put into an installer's environment. A variable whose value needs one of them that is
/// not set is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// URL of the registry: `{registry}`.
    pub registry: Option<&'a str>,
    /// Path of a file with certificates: `{ca}`.
    pub certificates: Option<&'a str>,
    /// URL of a proxy: `{proxy}`.
    pub proxy: Option<&'a str>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    files: Vec<String>,
    check: Check,
    run: Vec<String>,
    #[serde(default)]
    compile: Vec<String>,
    #[serde(default)]
    prebuilt: Vec<String>,
    #[serde(default)]
    any: Vec<String>,
    registry: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    programs: BTreeMap<String, String>,
}

impl Manifest {
    pub(super) fn into_install(self, image: Files) -> Result<Install, String> {
        let wanted = match self.check {
            Check::Requirements | Check::RDescription => 1,
            Check::NpmLock | Check::CargoLock => 2,
        };
        let plain =
            |file: &String| !file.is_empty() && !file.contains(['/', '\\', '\0']) && !file.starts_with('.');
        if self.files.len() != wanted || !self.files.iter().all(plain) {
            return Err(format!("files: this check takes the names of {wanted}, without folders"));
        }
        let is_program = |word: &String| word.starts_with('/');
        if !self.run.first().is_some_and(is_program) || !self.compile.first().is_none_or(is_program) {
            return Err("run, compile: the first word must be the absolute path of a program".into());
        }
        if self.registry.is_empty() || !self.registry.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err("registry: must be a word of lower-case letters".into());
        }
        let names = self.env.keys().chain(self.programs.keys());
        if let Some(name) = names.into_iter().find(|name| !super::is_env_name(name)) {
            return Err(format!("`{}` is no name of a variable", super::shown(name)));
        }
        let Self { files, check, run, compile, prebuilt, any, registry, env, programs } = self;
        Ok(Install { files, check, run, compile, prebuilt, any, registry, env, programs, image })
    }
}

/// Whether a file of a runtime's folder is one of those that make the image that installs, and none of its own image.
pub(super) fn is_of_installer(path: &str) -> bool {
    path == DOCKERFILE || path.starts_with(FOLDER)
}

impl Install {
    /// Argv of the installer. `code`: packages may run code of their own while they are installed.
    #[must_use]
    pub fn command(&self, code: bool) -> Vec<String> {
        let kinds = if code { &self.any } else { &self.prebuilt };
        let word = |word: &String| if word == KINDS { kinds.clone() } else { vec![word.clone()] };
        self.run.iter().flat_map(word).collect()
    }

    /// Environment of the installer.
    #[must_use]
    pub fn environment(&self, sources: &Sources<'_>) -> Vec<(String, String)> {
        let filled = self.env.iter().filter_map(|(name, value)| Some((name.clone(), sources.fill(value)?)));
        filled.collect()
    }
}

impl Sources<'_> {
    fn fill(&self, value: &str) -> Option<String> {
        // Only what is fetched without TLS needs to be told that this is meant.
        let plain = self.registry.and_then(|url| url.strip_prefix("http://"));
        let host = plain.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(rest));
        let known = [
            ("{registry}", self.registry),
            ("{plain_host}", host),
            ("{ca}", self.certificates),
            ("{proxy}", self.proxy),
        ];
        let mut filled = value.to_owned();
        for (name, text) in known {
            if filled.contains(name) {
                filled = filled.replace(name, text?);
            }
        }
        Some(filled)
    }
}

impl Runtime {
    /// What has the image that installs for this one.
    #[must_use]
    pub fn installer(self: &Arc<Self>) -> Arc<Self> {
        let own = self.install.as_ref().map(|install| &install.image).filter(|files| !files.is_empty());
        let Some(own) = own else { return Arc::clone(self) };
        // The build tools, and nothing of the runtime's own context: its image has that.
        let tools = self.context.iter().filter(|(path, _)| path.starts_with(super::folders::BUILD_PREFIX));
        let mut context: BTreeMap<_, _> =
            tools.map(|(path, content)| (path.clone(), content.clone())).collect();
        for (path, content) in own {
            let path = if path == DOCKERFILE { "Dockerfile" } else { path };
            context.insert(path.to_owned(), content.clone());
        }
        let name = format!("{}{INSTALLER}", self.name);
        Arc::new(Self { name, base: Some(Arc::clone(self)), context: Arc::new(context), ..(**self).clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install() -> Install {
        let manifest: Manifest = toml::from_str(
            r#"
            files = ["requirements.txt"]
            check = "requirements"
            run = ["/bin/installer", "{kinds}", "requirements.txt"]
            prebuilt = ["--only", "wheels"]
            registry = "pip"
            env = { INDEX = "{registry}/x", HOST = "{plain_host}", CA = "{ca}", HOME = "/work" }
            "#,
        )
        .unwrap();
        manifest.into_install(Files::new()).unwrap()
    }

    #[test]
    fn the_kinds_of_packages_are_words_of_their_own() {
        assert_eq!(install().command(false), ["/bin/installer", "--only", "wheels", "requirements.txt"]);
        assert_eq!(install().command(true), ["/bin/installer", "requirements.txt"]);
    }

    #[test]
    fn a_variable_without_its_setting_is_left_out() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(install().environment(&Sources::default()), [pair("HOME", "/work")]);
        let sources = Sources { registry: Some("https://a.example"), certificates: Some("/ca"), proxy: None };
        let secure = [pair("CA", "/ca"), pair("HOME", "/work"), pair("INDEX", "https://a.example/x")];
        assert_eq!(install().environment(&sources), secure);
        let plain = Sources { registry: Some("http://a.example:80/simple"), ..Sources::default() };
        assert!(install().environment(&plain).contains(&pair("HOST", "a.example:80")));
    }

    #[test]
    fn a_faulty_table_is_refused_by_field() {
        let good = "files = ['a.txt']\ncheck = 'requirements'\nrun = ['/bin/x']\nregistry = 'pip'\n";
        for (change, says) in [
            (good.replace("a.txt", "../a.txt"), "files: "),
            (good.replace("'a.txt'", "'a.txt', 'b.txt'"), "files: "),
            (good.replace("/bin/x", "x"), "run, compile: "),
            (format!("{good}compile = ['x']"), "run, compile: "),
            (good.replace("'pip'", "'p=i'"), "registry: "),
            (format!("{good}env = {{ 'A B' = 'x' }}"), "`A B`"),
        ] {
            let manifest: Manifest = toml::from_str(&change).unwrap();
            let error = manifest.into_install(Files::new()).unwrap_err();
            assert!(error.contains(says), "{change}: {error}");
        }
    }

    #[test]
    fn the_image_that_installs_starts_from_the_runtimes_and_leaves_that_as_it_is() {
        let python = crate::runtime::Catalogue::load(None).unwrap().resolve("python").unwrap();
        let installer = python.installer();
        assert_eq!(installer.base_image(), Some(python.image_name()));
        assert!(!python.context.contains_key(DOCKERFILE), "it would change the runtime's image");
        assert!(!installer.context.contains_key("script.py"));
        let rust = crate::runtime::Catalogue::load(None).unwrap().resolve("rust").unwrap();
        assert!(!rust.context.contains_key("install/fetch-crates"), "it would change the runtime's image");
        assert!(rust.installer().context.contains_key("install/fetch-crates"));
        let r = crate::runtime::Catalogue::load(None).unwrap().resolve("r").unwrap();
        assert!(!r.context.contains_key("install/install.R"), "it would change the runtime's image");
        assert!(r.installer().context.contains_key("install/install.R"));
        let bash = crate::runtime::Catalogue::load(None).unwrap().resolve("bash").unwrap();
        assert_eq!(bash.installer().image_name(), bash.image_name(), "it has no installer of its own");
    }
}
