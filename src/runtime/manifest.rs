//! `runtime.toml`: the description of a runtime, checked once when it is read. `images/python/runtime.toml` explains
//! each field to those who write one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::runtime::folders::Files;
use crate::runtime::near::with_nearest_key;
use crate::runtime::template::Template;
use crate::runtime::{
    ErrorPattern, FullHeap, Hint, Lint, NamedIn, PathPattern, Runtime, Signs, SourceRules, error, hints,
    install,
};

/// The file's name in a runtime's folder.
const FILE: &str = "runtime.toml";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// The language: `[a-z0-9+#_-]`, 1 to 32 of them. Several folders may share it at different versions.
    name: String,
    /// One to three numbers with dots between.
    version: String,
    /// Runtime, as a request would name it, whose image the Dockerfile starts from.
    base: Option<String>,
    /// Other names, by the same grammar.
    #[serde(default)]
    aliases: Vec<String>,
    /// File extensions without the dot. One with capital letters is meant as it is written.
    #[serde(default)]
    extensions: Vec<String>,
    /// Relative paths and globs, best first. The first is a path.
    #[serde(default)]
    entrypoints: Vec<String>,
    /// Paths and globs.
    #[serde(default)]
    markers: Vec<String>,
    /// Names and globs of names.
    #[serde(default)]
    tooling: Vec<String>,
    /// Names of folders.
    #[serde(default)]
    vendored: Vec<String>,
    #[serde(default)]
    companion: bool,
    #[serde(default)]
    refuses_crlf: bool,
    /// Names of languages.
    #[serde(default)]
    outranks: Vec<String>,
    /// Keys of the project's own files.
    #[serde(default)]
    entrypoint_in: Vec<Named>,
    /// Which files the compiler gets.
    #[serde(default)]
    sources: Given,
    /// Argv template of the compiler.
    compile: Option<Vec<String>>,
    /// Argv template of the program.
    run: Vec<String>,
    /// Other argv templates for entrypoints of some paths.
    #[serde(default)]
    starts: Vec<Start>,
    /// Argv template that also writes the last expression's value to the descriptor in `EXECBOX_RESULT_FD`.
    eval: Option<Vec<String>>,
    /// Argv template that also gives the program the names of the script contract. What it is to do stands in the file
    /// that `EXECBOX_INPUT` names.
    script: Option<Vec<String>>,
    /// Argv template that calls the function which that file names.
    call: Option<Vec<String>>,
    /// These two keep plots where the file says so.
    #[serde(default)]
    plots: bool,
    /// Absolute folders beside the workspace and `/tmp`.
    #[serde(default)]
    writable: Vec<String>,
    /// For people.
    #[serde(default)]
    packages: Vec<String>,
    /// The environment of both phases, beside [`super::USUAL_ENV`].
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// How errors are told.
    #[serde(default)]
    errors: Vec<Told>,
    /// How a program ends when the language's own heap is full.
    #[serde(default)]
    full_heap: Vec<Ends>,
    /// What is worth a word in sources.
    #[serde(default)]
    lint: Vec<Frowned>,
    /// What helps at common dead ends.
    #[serde(default)]
    hints: Vec<hints::Manifest>,
    /// How packages are installed.
    install: Option<install::Manifest>,
}

/// A place where a project names its entrypoint.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    /// A JSON or TOML file at the project's root.
    file: String,
    /// With dots between the parts.
    key: String,
    /// A regular expression with a group named `entrypoint`.
    pattern: Option<String>,
}

/// Another way to start a program.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// A path or a glob.
    entrypoint: String,
    /// Argv template of the program.
    run: Vec<String>,
}

/// How the files that a compiler of all files does not get are known.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    /// Paths and globs.
    never: Vec<String>,
    /// Regular expression of comments and the like, in which the next two are not looked for.
    skip: String,
    /// Regular expression of where a program starts.
    main: String,
    /// Regular expression of what only tests have.
    test: String,
    /// Regular expression of what names the file, with a group named `name`.
    name: String,
}

/// What is worth a word.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Frowned {
    /// A regular expression.
    pattern: String,
    /// The word.
    message: String,
}

/// One way of telling an error.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// A regular expression with groups named `type`, `file`, `line` and `message`.
    pattern: String,
    /// The type of what it matches.
    r#type: Option<String>,
    /// Its last match tells, not its first.
    #[serde(default)]
    last: bool,
}

/// One way in which a program ends.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    /// 128 + n after signal n.
    exit_code: i32,
    /// A regular expression of what is written to standard error.
    pattern: String,
}

/// Makes a runtime of a folder's files, and names its base. The error names the file and the field.
pub(super) fn read(mut files: Files) -> Result<(Runtime, Option<String>), String> {
    let text = files.remove(FILE).ok_or_else(|| format!("{FILE} is missing"))?;
    let text = String::from_utf8(text).map_err(|_| format!("{FILE} is not UTF-8"))?;
    let wrong = |error: toml::de::Error| format!("{FILE}: {}", with_nearest_key(&error.to_string()));
    let manifest: Manifest = toml::from_str(&text).map_err(wrong)?;
    if !files.contains_key("Dockerfile") {
        return Err("Dockerfile is missing".into());
    }
    manifest.check().map_err(|error| format!("{FILE}: {error}"))?;
    let base = manifest.base.clone();
    let runtime = manifest.into_runtime(files).map_err(|error| format!("{FILE}: {error}"))?;
    Ok((runtime, base))
}

impl Manifest {
    fn check(&self) -> Result<(), String> {
        let name_rule = "must be 1 to 32 of a-z, 0-9, +, #, _ and -, with a letter or digit first";
        field("name", [&self.name], is_name, name_rule)?;
        let version_rule = "must be one to three numbers with dots between, such as 3.13";
        field("version", [&self.version], |text| version(text).is_some(), version_rule)?;
        field("aliases", &self.aliases, is_name, name_rule)?;
        let extension_rule = "must be 1 to 32 of A-Z, a-z, 0-9, + and _, without the dot";
        field("extensions", &self.extensions, is_extension, extension_rule)?;
        let entrypoint_rule = "must be a relative path without `.`, `..` or a backslash";
        field("entrypoints", &self.entrypoints, is_relative_path, entrypoint_rule)?;
        field("markers", &self.markers, is_relative_path, entrypoint_rule)?;
        let one_rule = "must be the name of a file or folder, without `/`";
        let is_one = |text: &str| is_relative_path(text) && !text.contains('/');
        field("tooling", &self.tooling, is_one, one_rule)?;
        field("vendored", &self.vendored, is_one, one_rule)?;
        field("sources.never", &self.sources.never, is_relative_path, entrypoint_rule)?;
        field("outranks", &self.outranks, is_name, name_rule)?;
        let writable_rule = "must be an absolute path of at least one folder, without `.` or `..`";
        field("writable", &self.writable, is_absolute_path, writable_rule)?;
        let env_rule = "must be a name of letters, digits and _, with no digit first";
        field("env", self.env.keys(), super::is_env_name, env_rule)?;
        field("env", self.env.values(), |text| !text.contains('\0'), "must not hold a NUL")
    }

    fn into_runtime(self, context: Files) -> Result<Runtime, String> {
        let (installer, context): (Files, Files) =
            context.into_iter().partition(|(path, _)| install::is_of_installer(path));
        let install = self.install.map(|install| install.into_install(installer));
        let install = install.transpose().map_err(|error| format!("install: {error}"))?;
        let template = |field: &str, words: Vec<String>| {
            Template::parse(&words).map_err(|error| format!("{field}: {error}"))
        };
        let signs = Signs {
            markers: patterns("markers", self.markers)?,
            tooling: patterns("tooling", self.tooling)?,
            vendored: self.vendored,
            companion: self.companion,
            refuses_crlf: self.refuses_crlf,
            outranks: self.outranks,
            named_in: named_in(self.entrypoint_in)?,
        };
        let Given { never, skip, main, test, name } = self.sources;
        let sources = SourceRules::parse(patterns("sources.never", never)?, [skip, main, test, name])
            .map_err(|error| format!("sources: {error}"))?;
        let entrypoints = patterns("entrypoints", self.entrypoints)?;
        if entrypoints.first().is_some_and(|first| first.plain().is_none()) {
            return Err(format!(
                "entrypoints: `{}` is a glob; the first must be a path",
                entrypoints[0].text()
            ));
        }
        let start = |start: Start| -> Result<_, String> {
            let path = PathPattern::parse(start.entrypoint).map_err(|error| format!("starts: {error}"))?;
            Ok((path, template("starts", start.run)?))
        };
        let lint = self.lint.into_iter().map(|rule| (rule.pattern, rule.message)).collect();
        let errors = self.errors.into_iter();
        let errors = errors.map(|told| ErrorPattern::parse(told.pattern, told.r#type, told.last));
        let hints = self.hints.into_iter().map(Hint::parse);
        let full_heap = self.full_heap.into_iter();
        let full_heap = full_heap.map(|ends| FullHeap::parse(ends.exit_code, ends.pattern));
        Ok(Runtime {
            full_heap: full_heap.collect::<Result<_, _>>().map_err(|error| format!("full_heap: {error}"))?,
            errors: errors.collect::<Result<_, _>>().map_err(|error| format!("errors: {error}"))?,
            compile: self.compile.map(|words| template("compile", words)).transpose()?,
            run: template("run", self.run)?,
            starts: self.starts.into_iter().map(start).collect::<Result<_, _>>()?,
            eval: self.eval.map(|words| template("eval", words)).transpose()?,
            script: self.script.map(|words| template("script", words)).transpose()?,
            call: self.call.map(|words| template("call", words)).transpose()?,
            plots: self.plots,
            base: None,
            name: self.name,
            version: self.version,
            aliases: self.aliases,
            extensions: self.extensions,
            entrypoints,
            signs,
            hints: hints.collect::<Result<_, _>>().map_err(|error| format!("hints: {error}"))?,
            sources,
            lint: Lint::parse(lint).map_err(|error| format!("lint: {error}"))?,
            env: environment(self.env),
            writable: self.writable,
            install: install.map(Arc::new),
            packages: self.packages,
            context: Arc::new(context),
        })
    }
}

/// The variables of every language, where the runtime does not say otherwise.
fn environment(own: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let usual = super::USUAL_ENV.map(|(name, value)| (name.to_owned(), value.to_owned()));
    usual.into_iter().chain(own).collect()
}

fn patterns(field: &str, texts: Vec<String>) -> Result<Vec<PathPattern>, String> {
    let patterns = texts.into_iter().map(PathPattern::parse);
    patterns.collect::<Result<_, _>>().map_err(|error| format!("{field}: {error}"))
}

fn named_in(places: Vec<Named>) -> Result<Vec<NamedIn>, String> {
    let places = places.into_iter().map(|named| NamedIn::parse(named.file, named.key, named.pattern));
    places.collect::<Result<_, _>>().map_err(|error| format!("entrypoint_in: {error}"))
}

fn field<'a>(
    name: &str,
    values: impl IntoIterator<Item = &'a String>,
    is_valid: impl Fn(&str) -> bool,
    rule: &str,
) -> Result<(), String> {
    match values.into_iter().find(|value| !is_valid(value)) {
        Some(value) => Err(format!("{name}: `{}` {rule}", error::shown(value))),
        None => Ok(()),
    }
}

/// A version with the numbers that are left out as zero.
pub(super) fn version(text: &str) -> Option<semver::Version> {
    let dots = text.bytes().filter(|byte| *byte == b'.').count();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let padding = [".0.0", ".0", ""].get(dots).filter(|_| is_plain)?;
    semver::Version::parse(&format!("{text}{padding}")).ok()
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 32
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || b"+#_-".contains(&byte))
}

fn is_extension(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_".contains(&byte))
}

fn is_relative_path(text: &str) -> bool {
    !text.contains(['\\', '\0']) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_absolute_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(is_relative_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"x\"\nversion = \"1.2\"\nrun = [\"/bin/x\", \"{entrypoint}\"]\n";

    fn parse(toml: &str) -> Result<Runtime, String> {
        let files = [("runtime.toml", toml), ("Dockerfile", "FROM scratch")];
        let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
        read(files.into()).map(|(runtime, _)| runtime)
    }

    #[test]
    fn little_is_enough() {
        let runtime = parse(GOOD).unwrap();
        assert_eq!((runtime.name.as_str(), runtime.semver()), ("x", semver::Version::new(1, 2, 0)));
        // What describes the runtime does not make its image.
        assert_eq!(runtime.context.keys().collect::<Vec<_>>(), ["Dockerfile"]);
    }

    #[test]
    fn every_fault_is_told_by_file_and_field() {
        for (change, says) in [
            (GOOD.replace("name = \"x\"", "name = \"X\""), "runtime.toml: name: `X`"),
            (GOOD.replace("name = \"x\"", "name = \"\""), "name: ``"),
            (GOOD.replace("name = \"x\"", &format!("name = \"{}\"", "x".repeat(33))), "name: `xxx"),
            (GOOD.replace("name = \"x\"", "name = \"-x\""), "name: `-x`"),
            (GOOD.replace("name = \"x\"\n", ""), "missing field `name`"),
            (GOOD.replace("1.2", "v1"), "version: `v1`"),
            (GOOD.replace("1.2", "1.2.3.4"), "version: `1.2.3.4`"),
            (GOOD.replace("1.2", "01"), "version: `01`"),
            (GOOD.replace("1.2", ""), "version: ``"),
            (GOOD.replace("{entrypoint}", "{file}"), "run: `{file}`"),
            (format!("{GOOD}compile = [\"cc\", \"x{{args}}\"]"), "compile: `x{args}`"),
            (format!("{GOOD}[[starts]]\nentrypoint = \"[\"\nrun = [\"x\"]"), "starts: `[`"),
            (format!("{GOOD}[[starts]]\nentrypoint = \"x\"\nrun = [\"{{x}}\"]"), "starts: `{x}`"),
            (format!("{GOOD}eval = []"), "eval: its first word"),
            (format!("{GOOD}script = [\"{{x}}\"]"), "script: `{x}`"),
            (format!("{GOOD}call = []"), "call: its first word"),
            (format!("{GOOD}aliases = [\"ok\", \"a b\"]"), "aliases: `a b`"),
            (format!("{GOOD}extensions = [\".x\"]"), "extensions: `.x`"),
            (format!("{GOOD}entrypoints = [\"../x\"]"), "entrypoints: `../x`"),
            (format!("{GOOD}entrypoints = [\"/x\"]"), "entrypoints: `/x`"),
            (format!("{GOOD}entrypoints = [\"[\"]"), "entrypoints: `[`"),
            (format!("{GOOD}entrypoints = [\"*.x\"]"), "entrypoints: `*.x` is a glob"),
            (format!("{GOOD}markers = [\"/x\"]"), "markers: `/x`"),
            (format!("{GOOD}tooling = [\"a/b\"]"), "tooling: `a/b`"),
            (format!("{GOOD}vendored = [\"a/b\"]"), "vendored: `a/b`"),
            (format!("{GOOD}outranks = [\"A\"]"), "outranks: `A`"),
            (format!("{GOOD}[[entrypoint_in]]\nfile = \"x\"\nkey = \"a\""), "entrypoint_in: `x`"),
            (format!("{GOOD}[[lint]]\npattern = \"(\"\nmessage = \"m\""), "lint: `(`"),
            (format!("{GOOD}[sources]\nmain = \"(\""), "sources: `(`"),
            (format!("{GOOD}[sources]\nname = \"x\""), "sources: `x` has no group named name"),
            (format!("{GOOD}[sources]\nnever = [\"[\"]"), "sources.never: `[`"),
            (format!("{GOOD}writable = [\"/\"]"), "writable: `/`"),
            (format!("{GOOD}writable = [\"/a/../b\"]"), "writable: `/a/../b`"),
            (format!("{GOOD}[env]\n\"1A\" = \"x\""), "env: `1A`"),
            (format!("{GOOD}[env]\nA = \"\\u0000\""), "must not hold a NUL"),
            (format!("{GOOD}[[errors]]\npattern = \"(\""), "errors: `(`: "),
            (format!("{GOOD}[[full_heap]]\nexit_code = 1\npattern = \"(\""), "full_heap: `(`: "),
            (format!("{GOOD}colour = \"red\""), "unknown field `colour`; known here: "),
            (format!("{GOOD}alias = []"), "unknown field `alias`; did you mean `aliases`?"),
            (format!("{GOOD}]"), "runtime.toml: TOML parse error"),
        ] {
            let error = parse(&change).unwrap_err();
            assert!(error.contains(says), "{change}\n{error}");
        }
    }

    #[test]
    fn both_files_must_be_there() {
        let file = |path: &str, text: &[u8]| Files::from([(path.to_owned(), text.to_vec())]);
        assert_eq!(read(file("Dockerfile", b"")).unwrap_err(), "runtime.toml is missing");
        assert_eq!(read(file("runtime.toml", GOOD.as_bytes())).unwrap_err(), "Dockerfile is missing");
        assert_eq!(read(file("runtime.toml", b"\xff")).unwrap_err(), "runtime.toml is not UTF-8");
    }
}
