//! What a project is and where it starts, when a request does not say. `docs/projects.md` has the rules.

use std::sync::Arc;

use crate::runtime::error::{Candidate, shown};
use crate::runtime::view::{ProjectView, extension, is_caseless};
use crate::runtime::{Catalogue, Runtime, RuntimeError};

/// How much speaks for a language, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    /// Files such as accompany projects of other languages.
    Companion,
    /// Source files.
    Sources,
    /// A file that only such projects have, beside source files.
    Marker,
    /// A file called as its programs usually are.
    Entrypoint,
    /// Both of these, or a file that names the entrypoint.
    Both,
}

/// Which files count as sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Those of the program.
    Own,
    /// Those of tools as well: when there are no others, they are the program.
    All,
}

impl Catalogue {
    /// The newest runtime of the language that has files of this extension.
    ///
    /// # Errors
    /// No language has.
    pub fn of_file(&self, path: &str) -> Result<Arc<Runtime>, RuntimeError> {
        // `.C` is one language's, and `.c` in capital letters another's.
        let has_exactly = |runtime: &&Arc<Runtime>| {
            extension(path).is_some_and(|found| runtime.extensions.iter().any(|known| known == found))
        };
        let mut found = self.newest().find(has_exactly);
        found = found.or_else(|| self.newest().find(|runtime| runtime.has_extension(path)));
        found.cloned().ok_or_else(|| RuntimeError::UnknownExtension { entrypoint: shown(path) })
    }

    /// The newest runtime of the language that most speaks for.
    ///
    /// # Errors
    /// No language fits, or more than one equally.
    pub fn detect(&self, view: &ProjectView<'_>) -> Result<Arc<Runtime>, RuntimeError> {
        let mut claims = self.claims(view, Count::Own);
        if claims.is_empty() {
            claims = self.claims(view, Count::All);
        }
        match claims.as_slice() {
            [] => Err(RuntimeError::NoLanguage),
            [only] => Ok(Arc::clone(only)),
            several => {
                let candidate = |runtime: &&Arc<Runtime>| runtime.candidate(view);
                Err(RuntimeError::AmbiguousLanguage { candidates: several.iter().map(candidate).collect() })
            }
        }
    }

    /// Whether a language, or this one, has one of its usual entrypoints in the project. One that may be in a folder of any
    /// name does not count.
    #[must_use]
    pub fn has_usual_entrypoint(&self, view: &ProjectView<'_>, language: Option<&str>) -> bool {
        let starts = |runtime: &Arc<Runtime>| {
            let mut fixed = runtime.entrypoints.iter().filter(|pattern| !pattern.text().starts_with('*'));
            let is_there = |path: &str| view.has(path);
            fixed.any(|pattern| match pattern.plain() {
                Some(path) => is_there(path),
                None => runtime.sources(view, Count::All).into_iter().any(|path| pattern.is_match(path)),
            })
        };
        match language.map(|language| self.resolve(language)) {
            Some(named) => named.is_ok_and(|runtime| starts(&runtime)),
            None => self.newest().any(starts),
        }
    }

    /// The runtimes that most speaks for, without those that another of them outranks.
    fn claims(&self, view: &ProjectView<'_>, count: Count) -> Vec<&Arc<Runtime>> {
        let mut claims: Vec<(Strength, &Arc<Runtime>)> = Vec::new();
        for runtime in self.newest() {
            claims.extend(runtime.strength(view, count).map(|strength| (strength, runtime)));
        }
        let strongest = claims.iter().map(|(strength, _)| *strength).max();
        let top = claims.into_iter().filter(|(strength, _)| Some(*strength) == strongest);
        let mut top: Vec<_> = top.map(|(_, runtime)| runtime).collect();
        let outranked: Vec<&str> =
            top.iter().flat_map(|runtime| &runtime.signs.outranks).map(String::as_str).collect();
        top.retain(|runtime| !outranked.contains(&runtime.name.as_str()));
        top
    }

    /// The newest version of each language, without variants.
    fn newest(&self) -> impl Iterator<Item = &Arc<Runtime>> {
        let mut last = "";
        self.runtimes().iter().filter(|runtime| !runtime.is_variant()).filter(move |runtime| {
            let is_first = runtime.name != last;
            last = &runtime.name;
            is_first
        })
    }
}

impl Runtime {
    /// Where a project of this language starts: at the file that the project names itself, else at one of the
    /// language's entrypoints, else at its only source file. A language that makes one program of all files has no
    /// such file, and takes any.
    ///
    /// # Errors
    /// None of these is there; says what was looked for, and what there is.
    pub fn find_entrypoint(&self, view: &ProjectView<'_>) -> Result<String, RuntimeError> {
        self.choose_entrypoint(view).map(|(entrypoint, _)| entrypoint)
    }

    /// [`Self::find_entrypoint`], and whether something speaks for this file rather than another.
    ///
    /// # Errors
    /// The same.
    pub fn choose_entrypoint(&self, view: &ProjectView<'_>) -> Result<(String, bool), RuntimeError> {
        if let Some(named) = self.named_entrypoint(view) {
            return Ok((named, true));
        }
        if let Some(usual) = self.usual_entrypoint(view) {
            return Ok((usual.to_owned(), true));
        }
        match self.all_sources(view).as_slice() {
            [only] => Ok(((*only).to_owned(), true)),
            [first, ..] if !self.needs_entrypoint() => Ok(((*first).to_owned(), false)),
            sources => Err(RuntimeError::NoEntrypoint {
                looked_for: self.any_entrypoint(),
                sources: sources.iter().map(|path| shown(path)).collect(),
            }),
        }
    }

    /// What speaks for this language.
    fn strength(&self, view: &ProjectView<'_>, count: Count) -> Option<Strength> {
        if self.named_entrypoint(view).is_some() {
            return Some(Strength::Both);
        }
        let usual = self.usual_entrypoint(view);
        if usual.is_none() && self.sources(view, count).is_empty() {
            return None;
        }
        let is_first = usual.is_some_and(|path| self.first_entrypoint() == Some(path));
        let marked = view.root().iter().any(|file| self.is_marker(file));
        Some(match (usual.is_some(), marked) {
            (_, false) if self.signs.companion && !is_first => Strength::Companion,
            (true, true) => Strength::Both,
            (true, false) => Strength::Entrypoint,
            (false, true) => Strength::Marker,
            (false, false) => Strength::Sources,
        })
    }

    /// The file that a file of the project names, written as the language lets it be written: without the extension, or
    /// as the folder of an entrypoint.
    fn named_entrypoint(&self, view: &ProjectView<'_>) -> Option<String> {
        let spelt = |path: String| {
            let extended = self.extensions.iter().map(|extension| format!("{path}.{extension}"));
            let names = self.entrypoints.iter().filter_map(|pattern| pattern.plain());
            let inside = names.filter(|name| !name.contains('/')).map(|name| format!("{path}/{name}"));
            let mut ways: Vec<String> = extended.chain(inside).collect();
            ways.insert(0, path);
            ways.into_iter().find(|path| view.has(path))
        };
        self.signs.named_in.iter().filter_map(|named| named.read(view)).find_map(spelt)
    }

    /// The best of the language's entrypoints. A glob that matches several files decides nothing.
    fn usual_entrypoint<'v>(&'v self, view: &ProjectView<'v>) -> Option<&'v str> {
        self.entrypoints.iter().find_map(|pattern| match pattern.plain() {
            Some(path) => view.has(path).then_some(path),
            None => {
                let mut matches =
                    self.sources(view, Count::All).into_iter().filter(|path| pattern.is_match(path));
                matches.next().filter(|_| matches.next().is_none())
            }
        })
    }

    /// The source files, in order of their paths.
    fn sources<'v>(&self, view: &ProjectView<'v>, count: Count) -> Vec<&'v str> {
        let all = self.extensions.iter().flat_map(|extension| view.with_extension(extension)).copied();
        let is_tool = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            self.is_marker(path) || self.signs.tooling.iter().any(|pattern| pattern.is_match(name))
        };
        let mut sources: Vec<&str> = all.filter(|path| count == Count::All || !is_tool(path)).collect();
        sources.sort_unstable();
        sources
    }

    fn all_sources<'v>(&self, view: &ProjectView<'v>) -> Vec<&'v str> {
        let own = self.sources(view, Count::Own);
        if own.is_empty() { self.sources(view, Count::All) } else { own }
    }

    fn is_marker(&self, path: &str) -> bool {
        self.signs.markers.iter().any(|pattern| pattern.is_match(path))
    }

    /// Whether a file of this name is the language's.
    #[must_use]
    pub fn has_extension(&self, path: &str) -> bool {
        let is_like = |known: &str, found: &str| {
            known == found || is_caseless(known) && known.eq_ignore_ascii_case(found)
        };
        let is_own = |found: &str| self.extensions.iter().any(|known| is_like(known, found));
        extension(path).is_some_and(is_own)
    }

    fn any_entrypoint(&self) -> String {
        let mut ways: Vec<String> = self.entrypoints.iter().map(|path| path.text().to_owned()).collect();
        ways.extend(self.extensions.iter().map(|extension| format!("single .{extension} file")));
        ways.join(" or ")
    }

    fn candidate(&self, view: &ProjectView<'_>) -> Candidate {
        let starts = match self.find_entrypoint(view) {
            Ok(entrypoint) => vec![shown(&entrypoint)],
            Err(_) => self.all_sources(view).into_iter().map(shown).collect(),
        };
        Candidate { language: self.name.clone(), starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Contents, Entry, EntryKind};

    fn project(paths: &[&str]) -> Vec<Entry> {
        let entry = |path: &&str| match path.strip_suffix('/') {
            Some(folder) => Entry { path: folder.to_owned(), kind: EntryKind::Dir },
            None => Entry { path: (*path).to_owned(), kind: EntryKind::File { size: 1, executable: false } },
        };
        paths.iter().map(entry).collect()
    }

    /// Language and entrypoint of a project. `package` is what its package.json says.
    fn found(
        catalogue: &Catalogue,
        entrypoint: Option<&str>,
        paths: &[&str],
        package: &str,
    ) -> Result<(String, Option<String>), RuntimeError> {
        let entries = project(paths);
        let contents = Contents::from([("package.json".to_owned(), package.as_bytes().to_vec())]);
        let view = catalogue.view(&entries, &contents);
        let runtime = match entrypoint {
            Some(entrypoint) => catalogue.of_file(entrypoint)?,
            None => catalogue.detect(&view)?,
        };
        Ok((runtime.name.clone(), runtime.find_entrypoint(&view).ok()))
    }

    #[test]
    fn an_entrypoint_tells_the_language() {
        let catalogue = Catalogue::load(None).unwrap();
        for (entrypoint, language) in [
            ("src/run.mjs", "node"),
            ("A.PY", "python"),
            ("a.c", "c"),
            ("a.C", "c++"),
            ("a.c++", "c++"),
            ("x.tar.sh", "bash"),
        ] {
            assert_eq!(found(&catalogue, Some(entrypoint), &[], "").unwrap().0, language, "{entrypoint}");
        }
    }

    /// What people expect of a project; the table in `docs/projects.md` is made of it.
    #[test]
    fn a_project_is_what_most_speaks_for() {
        let catalogue = Catalogue::load(None).unwrap();
        for (paths, language, entrypoint) in [
            // An entrypoint by convention, whatever else is there.
            (&["main.py", "tool.sh", "native.c"][..], "python", Some("main.py")),
            (&["__main__.py", "util.py", "data.csv"], "python", Some("__main__.py")),
            (&["main.py", "Makefile"], "python", Some("main.py")),
            (&["main.py", "package.json", "static/site.js"], "python", Some("main.py")),
            (&["src/main.c", "src/list.c", "data.csv"], "c", Some("src/main.c")),
            (
                &["src/main/java/org/shop/Main.java", "src/main/java/org/shop/Cart.java"],
                "java",
                Some("src/main/java/org/shop/Main.java"),
            ),
            // With a marker it outranks one without.
            (&["go.mod", "main.go", "main.py"], "go", Some("main.go")),
            (&["Cargo.toml", "src/main.rs", "src/lib.rs", "main.sh"], "rust", Some("src/main.rs")),
            (&["Makefile", "main.c", "main.py"], "c", Some("main.c")),
            // A marker outranks bare extensions.
            (&["go.mod", "server.go", "gen.py"], "go", Some("server.go")),
            (&["pyproject.toml", "tool.py", "native.c", "native.js"], "python", Some("tool.py")),
            (&["requirements.txt", "a.py", "b.py", "c.js"], "python", None),
            (&["Makefile", "list.c", "tree.c", "gen.py"], "c", Some("list.c")),
            (&["Makefile", "shop.f90", "gen.py"], "fortran", Some("shop.f90")),
            (&["CMakeLists.txt", "app.cpp", "list.c"], "c++", Some("app.cpp")),
            (&["Shop.csproj", "Shop.cs", "Cart.cs", "site.js"], "c#", Some("Cart.cs")),
            (
                &["pom.xml", "src/main/java/org/shop/App.java", "src/main/java/org/shop/Cart.java"],
                "java",
                Some("src/main/java/org/shop/App.java"),
            ),
            (&["DESCRIPTION", "R/stats.R", "tool.py"], "r", Some("R/stats.R")),
            (&["Gemfile", "shop.rb", "site.js"], "ruby", Some("shop.rb")),
            (&["composer.json", "shop.php", "site.js"], "php", Some("shop.php")),
            (&["mix.exs", "lib/shop.ex", "site.js"], "elixir", Some("lib/shop.ex")),
            (&["dune-project", "shop.ml", "tool.py"], "ocaml", Some("shop.ml")),
            (&["shop.cabal", "app/Main.hs", "main.py"], "haskell", Some("app/Main.hs")),
            (&["package.json", "shop.js", "tool.py"], "node", Some("shop.js")),
            // A marker without a source of its language says nothing.
            (&["Makefile", "a.py"], "python", Some("a.py")),
            (&["package.json", "tool.py"], "python", Some("tool.py")),
            // Source files of one language.
            (&["hello.py", "README"], "python", Some("hello.py")),
            (&["a.py", "b.py"], "python", None),
            (&["lib/only.rb", "notes.txt"], "ruby", Some("lib/only.rb")),
            // Shell and SQL accompany.
            (&["tool.py", "run.sh", "schema.sql"], "python", Some("tool.py")),
            (&["Makefile", "list.c", "run.sh"], "c", Some("list.c")),
            (&["app.py", "run.sh", "query.sql"], "python", Some("app.py")),
            (&["build.sh", "shop.kt"], "kotlin", Some("shop.kt")),
            (&["run.sh", "lib/a.sh"], "bash", Some("run.sh")),
            (&["report.sh", "schema.sql"], "bash", Some("report.sh")),
            (&["schema.sql", "notes.md"], "sqlite", Some("schema.sql")),
            (&["main.sh", "tool.py"], "bash", Some("main.sh")),
            // Languages that are written beside each other.
            (
                &["package.json", "tsconfig.json", "src/index.ts", "webpack.config.js"],
                "typescript",
                Some("src/index.ts"),
            ),
            (&["a.ts", "old.js"], "typescript", Some("a.ts")),
            (&["main.cpp", "main.c"], "c++", Some("main.cpp")),
            (&["main.C", "list.C"], "c++", Some("main.C")),
            (&["shop.C", "shop.hpp"], "c++", Some("shop.C")),
            (&["Shop.PY"], "python", Some("Shop.PY")),
            (&["main.c", "main.d"], "c", Some("main.c")),
            (&["window.cpp", "list.cpp", "shop.pro"], "c++", Some("list.cpp")),
            // What belongs to tools, to other people, or is hidden.
            (&["server.py", "tailwind.config.js", ".eslintrc.js"], "python", Some("server.py")),
            (&["shop.js", "node_modules/gyp/a.py", "node_modules/b.js"], "node", Some("shop.js")),
            (&["tool.py", ".github/scripts/x.js"], "python", Some("tool.py")),
            (&["setup.py"], "python", Some("setup.py")),
            (&["build.zig", "src/root.zig"], "zig", Some("src/root.zig")),
        ] {
            let expected = (language.to_owned(), entrypoint.map(str::to_owned));
            assert_eq!(found(&catalogue, None, paths, "").as_ref(), Ok(&expected), "{paths:?}");
        }
    }

    #[test]
    fn package_json_names_where_a_project_starts() {
        let catalogue = Catalogue::load(None).unwrap();
        for (paths, package, language, entrypoint) in [
            (&["bin/run.js", "index.js"][..], r#"{"main": "bin/run.js"}"#, "node", "bin/run.js"),
            (&["bin/run.js", "index.js"], r#"{"main": "./bin/run"}"#, "node", "bin/run.js"),
            (&["lib/index.js", "x.js"], r#"{"main": "lib/"}"#, "node", "lib/index.js"),
            (&["a.js", "b.js"], r#"{"main": "a.js", "scripts": {"start": "node b"}}"#, "node", "b.js"),
            // What is not there, or more than a file, leaves it to the rest.
            (&["index.js", "x.js"], r#"{"main": "dist/gone.js"}"#, "node", "index.js"),
            (&["index.js", "x.js"], r#"{"main": "../x.js"}"#, "node", "index.js"),
            (&["index.js", "x.js"], r#"{"scripts": {"start": "node x.js && rm"}}"#, "node", "index.js"),
            (&["index.js", "x.js"], "{{", "node", "index.js"),
            // It is an entrypoint and a marker.
            (&["bin/run.js", "main.py"], r#"{"main": "bin/run.js"}"#, "node", "bin/run.js"),
            (
                &["tsconfig.json", "cli.ts", "lib.ts"],
                r#"{"scripts": {"start": "npx tsx cli.ts"}}"#,
                "typescript",
                "cli.ts",
            ),
        ] {
            let paths = [&["package.json"][..], paths].concat();
            let expected = Ok((language.to_owned(), Some(entrypoint.to_owned())));
            assert_eq!(found(&catalogue, None, &paths, package), expected, "{paths:?} {package}");
        }
    }

    #[test]
    fn an_undecided_project_is_refused_with_the_choices() {
        let catalogue = Catalogue::load(None).unwrap();
        for (entrypoint, paths, code, says) in [
            (Some("main.cob"), &["main.cob"][..], "unknown_language", "main.cob"),
            (Some("Makefile"), &["Makefile"], "unknown_language", "Makefile"),
            (Some(".py"), &[], "unknown_language", ".py"),
            (
                None,
                &["main.py", "main.sh"],
                "ambiguous_language",
                "bash (main.sh) or python (main.py); name its",
            ),
            (
                None,
                &["index.js", "package.json", "main.py", "requirements.txt"],
                "ambiguous_language",
                "node (index.js) or python (main.py)",
            ),
            (None, &["a.py", "b.c"], "ambiguous_language", "c (b.c) or python (a.py)"),
            // However many there are of one, nobody said that it is the program.
            (
                None,
                &["a.py", "b.py", "c.py", "d.go"],
                "ambiguous_language",
                "go (d.go) or python (one of a.py, b.py, c.py)",
            ),
            // Make builds both.
            (
                None,
                &["Makefile", "shop.ml", "stubs.c"],
                "ambiguous_language",
                "c (stubs.c) or ocaml (shop.ml)",
            ),
            (None, &["app.kt", "cart.java"], "ambiguous_language", "java (cart.java) or kotlin (app.kt)"),
            (None, &["notes.txt", "main.py/"], "no_entrypoint", "main.py"),
            (None, &["data.csv", "README.md", "x.h"], "no_entrypoint", "GET /api/v1/runtimes"),
            (None, &[], "no_entrypoint", "main.py"),
        ] {
            let error = found(&catalogue, entrypoint, paths, "").unwrap_err();
            assert_eq!(error.code(), code, "{entrypoint:?} {paths:?}: {error}");
            assert!(error.to_string().contains(says), "{entrypoint:?} {paths:?}: {error}");
        }
    }

    #[test]
    fn the_entrypoint_is_the_best_default_or_the_only_source() {
        let catalogue = Catalogue::load(None).unwrap();
        let python = catalogue.resolve("python").unwrap();
        for (paths, found) in [
            (&["app.py", "main.py", "z.py"][..], Some("main.py")),
            (&["app.py", "z.py"], Some("app.py")),
            (&["lib/only.py", "x.txt"], Some("lib/only.py")),
            (&["only.py", "conftest.py", "setup.py"], Some("only.py")),
            (&["a.py", "b.py"], None),
            (&["main.py/", "lib/main.py", "a.py"], None),
            (&[], None),
        ] {
            let (entries, contents) = (project(paths), Contents::new());
            let view = catalogue.view(&entries, &contents);
            assert_eq!(python.find_entrypoint(&view).ok().as_deref(), found, "{paths:?}");
        }
        let many: Vec<String> = (0..9).map(|at| format!("m{at}.py")).collect();
        let (entries, contents) =
            (project(&many.iter().map(String::as_str).collect::<Vec<_>>()), Contents::new());
        let error = python.find_entrypoint(&catalogue.view(&entries, &contents)).unwrap_err().to_string();
        assert!(error.ends_with("name one of m0.py, m1.py, m2.py, m3.py, m4.py, ..."), "{error}");
    }
}
