//! The catalogue of runtimes: a language at a version, described by a folder under `images/`, never by Rust code.
//!
//! [`Catalogue::load`] reads the folders, [`Catalogue::resolve`] and [`Catalogue::detect`] find the runtime of a
//! request, and [`Runtime::command`] fills in its templates.

mod catalogue;
mod detect;
mod diagnosis;
mod error;
mod feature;
mod folders;
mod hints;
mod install;
mod lint;
mod manifest;
mod near;
mod resolve;
mod signs;
mod sources;
mod template;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use catalogue::{Catalogue, CatalogueError};
pub use diagnosis::{Diagnosis, ErrorPattern, FullHeap};
pub use error::RuntimeError;
pub(crate) use error::shown;
pub use feature::{Feature, Wants};
pub use hints::{Hint, Lack, Situation};
pub(crate) use install::INSTALLER;
pub use install::{Check, Install, Sources};
pub use lint::{Finding, Lint};
pub(crate) use near::{nearest, with_nearest_key};
pub use signs::{NamedIn, PathPattern, Signs};
pub use sources::{SourceKind, SourceRules};
pub use template::Template;
pub use view::ProjectView;

use crate::archive::Entry;

/// Folder for compile output, relative to the workspace. Made by the runner; never an artifact.
pub const BUILD_DIR: &str = ".execbox";
/// Variable that names the file with a program's data, where it has any.
pub const INPUT_VARIABLE: &str = "EXECBOX_INPUT";
/// Variable that tells the same program its execution's id.
pub const JOB_VARIABLE: &str = "EXECBOX_JOB_ID";
/// File of the build context that holds the certificates a build trusts. Whoever builds adds it; empty when no CA is
/// configured.
pub const CA_FILE: &str = "execbox-ca.crt";
/// The workspace in the container, where programs start.
const WORKSPACE: &str = "/work";

/// Environment variables that programs of every language find. The folders are inside the build folder, so that caches and
/// temporary files are never artifacts; in both, files can be executed, as in the workspace. The runner makes them.
const USUAL_ENV: [(&str, &str); 2] = [("HOME", "/work/.execbox/home"), ("TMPDIR", "/work/.execbox/tmp")];

/// A language at a version, with what makes its image and what starts its programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// The language's name on the wire.
    pub name: String,
    /// Version as the language's own users write it, such as `3.13`: one to three numbers.
    pub version: String,
    /// Runtime whose image this one's image starts from.
    pub base: Option<Arc<Runtime>>,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// File extensions without the dot.
    pub extensions: Vec<String>,
    /// Files that are taken as the entrypoint when none is named, best first.
    pub entrypoints: Vec<PathPattern>,
    /// What else its projects look like.
    pub signs: Signs,
    /// Rules for the files that its compiler gets.
    pub sources: SourceRules,
    /// Compiler's argv template, where the language has one.
    pub compile: Option<Template>,
    /// Program's argv template.
    pub run: Template,
    /// Other templates of programs, for entrypoints of some paths; the first that matches is taken.
    pub starts: Vec<(PathPattern, Template)>,
    /// Template that also writes the last expression's value to the result channel, where the language can.
    pub eval: Option<Template>,
    /// Template that also gives the program names for data in and results out, where the language can.
    pub script: Option<Template>,
    /// Template that calls one of the entrypoint's functions, where the language can.
    pub call: Option<Template>,
    /// The script's templates can keep plots.
    pub plots: bool,
    /// Environment of both phases.
    pub env: BTreeMap<String, String>,
    /// Absolute folders that the language must write to, beside the workspace and `/tmp`.
    pub writable: Vec<String>,
    /// How it tells of errors, the most telling first.
    pub errors: Vec<ErrorPattern>,
    /// How it ends a program when its own heap is full.
    pub full_heap: Vec<FullHeap>,
    /// What helps at common dead ends, the most telling first.
    pub hints: Vec<Hint>,
    /// What is worth a word in its sources.
    pub lint: Lint,
    /// How packages are installed, where they can be.
    pub install: Option<Arc<Install>>,
    /// Notable packages in the image, for people.
    pub packages: Vec<String>,
    /// Files of the image's build context, by path; `Dockerfile` is one of them, [`CA_FILE`] is not.
    pub context: Arc<BTreeMap<String, Vec<u8>>>,
}

/// What is to be started: the part of a request that fills in a runtime's templates.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// File to run, one of `entries`.
    pub entrypoint: &'a str,
    /// Arguments of the program.
    pub args: &'a [String],
    /// The caller's environment variables; the last of a name wins.
    pub env: &'a [(String, String)],
    /// The project's files and folders.
    pub entries: &'a [Entry],
    /// Sources that the compiler does not get: those of tests, and of other programs than the entrypoint's.
    pub apart: &'a BTreeSet<String>,
    /// What it is to do beside running.
    pub wants: Wants,
}

/// What compiles and starts a project: argv templates filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Compile first, where the language does.
    pub compile: Option<Vec<String>>,
    /// The program.
    pub run: Vec<String>,
    /// The whole environment: the runtime's, then the caller's, which wins.
    pub env: Vec<(String, String)>,
}

impl Runtime {
    /// Fills in the templates.
    ///
    /// # Errors
    /// The language can't do what is wanted, or the project lacks the files that it compiles.
    pub fn command(&self, invocation: &Invocation<'_>) -> Result<Command, RuntimeError> {
        let run = self.template(invocation.wants, invocation.entrypoint)?;
        let is_given =
            |path: &str| self.is_compiled(path, invocation.entrypoint) && !invocation.apart.contains(path);
        let render = |template: &Template| template.render(invocation, &is_given);
        let compile = self.compile.as_ref().map(render).transpose()?;
        let mut env = self.env.clone();
        env.extend(invocation.env.iter().cloned());
        Ok(Command { compile, run: render(run)?, env: env.into_iter().collect() })
    }

    /// What a program that came without a file name is called.
    #[must_use]
    pub fn first_entrypoint(&self) -> Option<&str> {
        self.entrypoints.first().and_then(PathPattern::plain)
    }

    /// Whether it matters which file is the entrypoint: a compiler of all files makes one program of them.
    fn needs_entrypoint(&self) -> bool {
        self.compile.iter().chain([&self.run]).any(Template::names_entrypoint)
    }

    /// What this compiler output, or standard error of a failed program, says went wrong.
    #[must_use]
    pub fn diagnose(&self, text: &str) -> Option<Diagnosis> {
        diagnosis::diagnose(&self.errors, text)
    }

    /// Sentences that help a caller whose execution ended so.
    #[must_use]
    pub fn hints(&self, situation: &Situation<'_>) -> Vec<String> {
        hints::sentences(&self.hints, situation)
    }

    /// The paths and globs of hints that fit a file of the project.
    #[must_use]
    pub fn hinting_files(&self, entries: &[Entry]) -> Vec<String> {
        hints::fitting(&self.hints, entries)
    }

    /// Whether a program that ended with this code, and with this at the end of its standard error, had its language's heap
    /// full.
    #[must_use]
    pub fn has_full_heap(&self, exit_code: i32, text: &str) -> bool {
        self.full_heap.iter().any(|ends| ends.is_told_by(exit_code, text))
    }

    /// SHA-256 in hexadecimal over the name and the build context: two runtimes with the same hash have the same
    /// image, as far as their folders go.
    #[must_use]
    pub fn content_hash(&self) -> String {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        let mut part = |bytes: &[u8]| {
            // Lengths keep a path and its content apart.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(self.name.as_bytes());
        if let Some(base) = &self.base {
            part(base.content_hash().as_bytes());
        }
        for (path, content) in self.context.iter() {
            part(path.as_bytes());
            part(content);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its image: the name in letters that an image name may have, tagged with the start of the content hash, which
    /// keeps images apart.
    #[must_use]
    pub fn image_name(&self) -> String {
        let name = self.name.replace('+', "plus").replace('#', "sharp").replace(['-', '_'], "");
        let hash: String = self.content_hash().chars().take(16).collect();
        format!("execbox/{name}:{hash}")
    }

    /// The image that the Dockerfile starts from: its base's, or its first `FROM`.
    #[must_use]
    pub fn base_image(&self) -> Option<String> {
        if let Some(base) = &self.base {
            return Some(base.image_name());
        }
        let dockerfile = std::str::from_utf8(self.context.get("Dockerfile")?).ok()?;
        dockerfile.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let is_from = words.next()?.eq_ignore_ascii_case("from");
            is_from.then(|| words.find(|word| !word.starts_with("--"))).flatten().map(str::to_owned)
        })
    }

    /// The same language as its base, with more in its image: chosen by name, never found from a project.
    fn is_variant(&self) -> bool {
        let base = self.base.iter().flat_map(|base| &base.extensions);
        base.into_iter().any(|extension| self.extensions.contains(extension))
    }

    /// The version with all three numbers. It was checked when the runtime was read.
    fn semver(&self) -> semver::Version {
        manifest::version(&self.version).unwrap_or(semver::Version::new(0, 0, 0))
    }
}

/// Whether an environment variable may have this name: letters, digits and `_`, with no digit first.
#[must_use]
pub fn is_env_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python() -> Arc<Runtime> {
        Catalogue::load(None).unwrap().resolve("python").unwrap()
    }

    fn invocation<'a>(args: &'a [String], env: &'a [(String, String)], eval: bool) -> Invocation<'a> {
        Invocation {
            entrypoint: "main.py",
            args,
            env,
            entries: &[],
            apart: const { &BTreeSet::new() },
            wants: Wants { eval, ..Wants::default() },
        }
    }

    #[test]
    fn the_callers_variables_win_over_the_runtimes() {
        let env = [("HOME".to_owned(), "/a".to_owned()), ("HOME".to_owned(), "/b".to_owned())];
        let command = python().command(&invocation(&[], &env, false)).unwrap();
        let homes: Vec<_> = command.env.iter().filter(|(name, _)| name == "HOME").collect();
        assert_eq!(homes, [&("HOME".to_owned(), "/b".to_owned())]);
        assert!(command.env.iter().any(|(name, _)| name == "PATH"));
    }

    #[test]
    fn the_value_of_the_last_expression_takes_its_own_template() {
        let args = ["a b".to_owned()];
        let python = python();
        let run = python.command(&invocation(&args, &[], false)).unwrap().run;
        assert_eq!(run, ["/usr/bin/python3", "main.py", "a b"]);
        let eval = python.command(&invocation(&args, &[], true)).unwrap().run;
        assert_eq!(eval, ["/usr/bin/python3", "/usr/lib/execbox/script.pyc", "main.py", "a b"]);

        let bash = Catalogue::load(None).unwrap().resolve("bash").unwrap();
        let error = bash.command(&invocation(&[], &[], true)).unwrap_err();
        assert_eq!(error.code(), "eval_not_supported");
    }

    #[test]
    fn an_entrypoint_in_a_folder_may_start_otherwise() {
        let python = python();
        let run = |entrypoint| {
            let invocation = Invocation { entrypoint, ..invocation(&[], &[], false) };
            python.command(&invocation).unwrap().run
        };
        assert_eq!(run("main.py")[0], "/usr/bin/python3");
        assert_eq!(run("app/__main__.py"), ["/usr/lib/execbox/python-start", "app/__main__.py"]);
        assert_eq!(run("a/b/c.py"), ["/usr/lib/execbox/python-start", "a/b/c.py"]);
    }

    #[test]
    fn the_hash_follows_every_path_and_byte() {
        let runtime = (*python()).clone();
        let with = |change: fn(&mut BTreeMap<String, Vec<u8>>)| {
            let mut context = (*runtime.context).clone();
            change(&mut context);
            Runtime { context: Arc::new(context), ..runtime.clone() }.content_hash()
        };
        let same = with(|_| {});
        assert_eq!(same, runtime.content_hash());
        assert_eq!(same.len(), 64);
        let changed = with(|context| context.get_mut("script.py").unwrap().push(b'\n'));
        let renamed = with(|context| {
            let content = context.remove("script.py").unwrap();
            context.insert("script2.py".into(), content);
        });
        let base = |base: Runtime| Runtime { base: Some(Arc::new(base)), ..runtime.clone() };
        let based = base(runtime.clone()).content_hash();
        let rebased = base(Runtime { name: "c".into(), ..runtime.clone() }).content_hash();
        let hashes = std::collections::HashSet::from([same, changed, renamed, based, rebased]);
        assert_eq!(hashes.len(), 5);
    }

    #[test]
    fn the_base_image_is_read_from_the_dockerfile() {
        for (dockerfile, base) in [
            ("FROM debian:trixie-slim\nRUN x", Some("debian:trixie-slim")),
            ("# a comment\n\nfrom --platform=linux/amd64 alpine AS build", Some("alpine")),
            ("FROM", None),
            ("RUN x", None),
        ] {
            let context = BTreeMap::from([("Dockerfile".to_owned(), dockerfile.as_bytes().to_vec())]);
            let runtime = Runtime { context: Arc::new(context), ..(*python()).clone() };
            assert_eq!(runtime.base_image().as_deref(), base, "{dockerfile:?}");
        }
    }

    #[test]
    fn an_image_name_has_no_letter_that_the_engine_refuses() {
        for (name, image) in [("python", "python"), ("c++", "cplusplus"), ("c#", "csharp"), ("a_-b", "ab")] {
            let name = Runtime { name: name.into(), ..(*python()).clone() }.image_name();
            let tag = name.strip_prefix(&format!("execbox/{image}:")).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(tag.len(), 16);
        }
    }
}
