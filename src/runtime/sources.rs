//! Which sources of a project the compiler gets: not those of tools and tests, of other people, or of another program.
//! `runtime.toml` says how they are known, by their paths and by what stands in them.

use std::sync::{Arc, OnceLock};

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::archive::{Entry, EntryKind};
use crate::runtime::lint::syntax_of_sources;
use crate::runtime::{PathPattern, Runtime};

/// Rules of a language for the files that its compiler gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceRules {
    /// Paths of files that tests have, or that builds make.
    never: Vec<PathPattern>,
    /// Rules for what stands in sources, where the language has some.
    content: Option<ContentRules>,
}

/// Patterns for what stands in sources.
#[derive(Debug, Clone)]
struct ContentRules {
    /// Comments and the like, what makes a program, what makes a test, and what names the file.
    patterns: Arc<[String; 4]>,
    /// Made when it is first used, as most servers see few languages.
    compiled: Arc<OnceLock<Option<Regex>>>,
}

impl PartialEq for ContentRules {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

/// Kind of a source, by its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceKind {
    /// Whether a program starts in it.
    pub has_main: bool,
    /// Whether it needs a library for tests.
    pub is_test: bool,
}

impl SourceRules {
    /// Reads the rules as they stand in a `runtime.toml`. `[skip, main, test, name]`: an empty pattern matches nothing.
    ///
    /// # Errors
    /// A sentence that names the pattern and what is wrong with it.
    pub(super) fn parse(never: Vec<PathPattern>, patterns: [String; 4]) -> Result<Self, String> {
        for pattern in &patterns {
            syntax::parse_with(pattern, &syntax_of_sources())
                .map_err(|error| format!("`{pattern}`: {error}"))?;
        }
        if !patterns[3].is_empty() && !patterns[3].contains(NAME_GROUP) {
            return Err(format!("`{}` has no group named name", patterns[3]));
        }
        let is_empty = patterns[1..].iter().all(String::is_empty);
        let content = ContentRules { patterns: Arc::new(patterns), compiled: Arc::default() };
        Ok(Self { never, content: Some(content).filter(|_| !is_empty) })
    }

    /// Kind of a source. All is no when the patterns are too large to be used.
    #[must_use]
    pub fn kind(&self, source: &[u8]) -> SourceKind {
        let mut kind = SourceKind::default();
        let Some(regex) = self.content.as_ref().and_then(ContentRules::regex) else { return kind };
        for found in regex.find_iter(source) {
            kind.has_main |= found.pattern().as_usize() == 1;
            kind.is_test |= found.pattern().as_usize() == 2;
        }
        kind
    }
}

/// How the group is written that has the name of a source's file.
const NAME_GROUP: &str = "(?P<name>";
/// Longest name that is taken for a file, in bytes.
const MAX_NAME: usize = 200;

impl ContentRules {
    /// Whether a source is read to decide if the compiler gets it.
    fn sorts(&self) -> bool {
        self.patterns[1..3].iter().any(|pattern| !pattern.is_empty())
    }

    /// The name that a source gives its file, without the extension.
    fn name<'s>(&self, source: &'s str) -> Option<&'s str> {
        let name = self.regex()?.captures_iter(source).find_map(|groups| {
            let group = groups.get_group_by_name("name")?;
            source.get(group.range())
        });
        name.filter(|name| name.len() <= MAX_NAME && !name.contains('/'))
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| self.compile()).as_ref()
    }

    fn compile(&self) -> Option<Regex> {
        // What matches nothing, not even the empty text.
        let pattern = |text: &String| if text.is_empty() { "[a&&b]".to_owned() } else { text.clone() };
        let patterns: Vec<String> = self.patterns.iter().map(pattern).collect();
        let compiled = Regex::builder().syntax(syntax_of_sources()).build_many(&patterns);
        compiled.inspect_err(|error| tracing::error!(%error, "the patterns of sources can't be used")).ok()
    }
}

impl Runtime {
    /// Whether what stands in sources decides which of them the compiler gets.
    #[must_use]
    pub fn reads_sources(&self) -> bool {
        self.sources.content.as_ref().is_some_and(ContentRules::sorts)
    }

    /// The file that code without a name becomes: what it names itself, as a public class of Java does, else what
    /// programs of the language are usually called.
    #[must_use]
    pub fn name_code(&self, code: &str) -> Option<String> {
        let named = self.sources.content.as_ref().and_then(|rules| rules.name(code));
        let named = named.zip(self.extensions.first()).map(|(name, extension)| format!("{name}.{extension}"));
        named.or_else(|| self.first_entrypoint().map(str::to_owned))
    }

    /// Files with the language's extensions that the compiler gets, as far as paths tell.
    #[must_use]
    pub fn compiled_sources<'e>(&self, entries: &'e [Entry], entrypoint: &str) -> Vec<&'e str> {
        let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        let paths = files.map(|entry| entry.path.as_str());
        paths.filter(|path| self.has_extension(path) && self.is_compiled(path, entrypoint)).collect()
    }

    /// Whether the path is one that a compiler of all files gets. What lies in one folder with the entrypoint is not
    /// foreign, whatever that folder is called; nor are tests when the entrypoint is one.
    pub(super) fn is_compiled(&self, path: &str, entrypoint: &str) -> bool {
        if path == entrypoint {
            return true;
        }
        let is_tool = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            self.signs.tooling.iter().any(|pattern| pattern.is_match(name))
        };
        let is_never = |pattern: &PathPattern| pattern.is_match(path) && !pattern.is_match(entrypoint);
        let is_other_tool = is_tool(path) && !is_tool(entrypoint);
        let is_foreign = self.is_hidden(path, entrypoint) || is_other_tool;
        !is_foreign && !self.sources.never.iter().any(is_never)
    }

    /// Whether the file is hidden, or in a hidden or vendored folder that the entrypoint is not in.
    fn is_hidden(&self, path: &str, entrypoint: &str) -> bool {
        let mut end = 0;
        path.split('/').any(|part| {
            end += part.len();
            let is_shared = entrypoint.starts_with(&path[..end]) && entrypoint[end..].starts_with('/');
            let is_folder = end < path.len();
            end += 1;
            let is_foreign =
                part.starts_with('.') || is_folder && self.signs.vendored.iter().any(|name| name == part);
            is_foreign && !(is_folder && is_shared)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::{Entry, EntryKind};
    use crate::runtime::{Catalogue, Invocation, Wants};
    use std::collections::BTreeSet;

    fn project(paths: &[&str]) -> Vec<Entry> {
        let kind = EntryKind::File { size: 1, executable: false };
        paths.iter().map(|path| Entry { path: (*path).to_owned(), kind }).collect()
    }

    #[test]
    fn the_compiler_gets_no_foreign_files() {
        let catalogue = Catalogue::load(None).unwrap();
        for (language, entrypoint, given, left_out) in [
            (
                "c",
                "main.c",
                &["lib/a.c", "test_a.c", "src/build/x.c"][..],
                &["._main.c", ".git/x.c", "build/x.c", "a/CMakeFiles/x.c"][..],
            ),
            ("c", "build/main.c", &["build/list.c"], &["cmake-build-debug/x.c", "._list.c"]),
            ("c", ".hidden/main.c", &[".hidden/list.c"], &[".hidden/._main.c", ".other/a.c"]),
            (
                "c++",
                "main.cpp",
                &["lib/a.cc", "lib/b.cxx"],
                &["._main.cpp", "out/x.cpp", "__MACOSX/._main.cpp"],
            ),
            (
                "c#",
                "Program.cs",
                &["Shop.cs", "Models/Cart.cs"],
                &["obj/Debug/x.cs", "bin/Debug/x.cs", "._Shop.cs"],
            ),
            ("d", "main.d", &["list.d"], &["._list.d", ".dub/build/x.d"]),
            ("fortran", "main.f90", &["shop.f90", "old.f"], &["._shop.f90", "build/x.f90"]),
            (
                "java",
                "src/main/java/com/ex/App.java",
                &["src/main/java/com/ex/Cart.java"],
                &[
                    "src/test/java/com/ex/Data.java",
                    "AppTest.java",
                    "target/generated-sources/A.java",
                    "._App.java",
                ],
            ),
            ("java", "CartTest.java", &["Cart.java", "MoreTests.java"], &[]),
            ("java", "Main.java", &["Test.java", "build/Wall.java"], &["MainTest.java"]),
            ("java", "src/test/java/A.java", &["src/test/java/B.java"], &[]),
            ("kotlin", "Main.kt", &["Cart.kt"], &["CartTest.kt", "src/test/kotlin/Data.kt", "._Cart.kt"]),
        ] {
            let runtime = catalogue.resolve(language).unwrap();
            for path in given {
                assert!(runtime.is_compiled(path, entrypoint), "{language}: {path} for {entrypoint}");
            }
            for path in left_out {
                assert!(!runtime.is_compiled(path, entrypoint), "{language}: {path} for {entrypoint}");
            }
        }
    }

    #[test]
    fn a_project_of_foreign_files_only_is_told_so() {
        let catalogue = Catalogue::load(None).unwrap();
        let runtime = catalogue.resolve("c").unwrap();
        let entries = project(&["._main.c", "notes"]);
        let apart = BTreeSet::new();
        let invocation = Invocation {
            entrypoint: "notes",
            args: &[],
            env: &[],
            entries: &entries,
            apart: &apart,
            wants: Wants::default(),
        };
        let error = runtime.command(&invocation).unwrap_err().to_string();
        assert!(error.contains("hidden") && error.contains("._main.c"), "{error}");
    }

    #[test]
    fn code_is_named_as_it_names_itself() {
        let catalogue = Catalogue::load(None).unwrap();
        for (language, code, name) in [
            ("java", "public class HelloWorld { public static void main(String[] a) {} }", "HelloWorld.java"),
            (
                "java",
                "class A {}\npublic final class Shop {\n    public static class Cart {}\n}",
                "Shop.java",
            ),
            (
                "java",
                "// public class Old {\n/* public class Older { */ final public class New {",
                "New.java",
            ),
            ("java", "class A { String s = \"public class B {\"; public static class C {} }", "Main.java"),
            ("java", "package a;\n@Deprecated public record Point(int x) {}", "Point.java"),
            ("java", "public sealed interface Shape permits Square {}", "Shape.java"),
            ("java", "public enum Color { RED }", "Color.java"),
            ("java", "public abstract\nclass\nBase {}", "Base.java"),
            ("java", "class Main {}", "Main.java"),
            ("kotlin", "class Shop", "Main.kt"),
            ("python", "public class Shop {", "main.py"),
        ] {
            let runtime = catalogue.resolve(language).unwrap();
            assert_eq!(runtime.name_code(code).as_deref(), Some(name), "{code}");
        }
        let long = format!("public class {} {{}}", "X".repeat(300));
        assert_eq!(catalogue.resolve("java").unwrap().name_code(&long).as_deref(), Some("Main.java"));
    }

    #[test]
    fn what_stands_in_a_source_tells_a_program_and_a_test() {
        let catalogue = Catalogue::load(None).unwrap();
        for (language, source, has_main, is_test) in [
            ("c", "#include <stdio.h>\nint main(void) { return 0; }\n", true, false),
            ("c", "int\nmain (int argc, char **argv)\n{\n", true, false),
            ("c", "void main() {}", true, false),
            ("c", "static int helper(void) { return main_loop(); }", false, false),
            ("c", "/*\nint main(void) { return 0; }\n*/\n// int main(void)\n", false, false),
            ("c", "#ifdef TEST\nint main(void) { return 0; }\n#endif\n", false, false),
            ("c", "#if 0\nint x;\n#endif\nint main(void) {}\n", true, false),
            ("c", "char *s = \"\\\n/*\"; int main(void) {}\nint main(void) {} /* */", true, false),
            ("c", "#include <cmocka.h>\n", false, true),
            ("c++", "#include <iostream>\nauto main() -> int {}\n", true, false),
            ("c++", "#include <gtest/gtest.h>\nTEST(A, b) {}\n", false, true),
            ("c#", "class A {\n    static async Task Main(string[] args) {}\n}", true, false),
            ("c#", "class A { public static void Main() {} }", true, false),
            ("c#", "class A { void Domain() {} // static void Main()\n }", false, false),
            ("c#", "using Xunit;\n", false, true),
            ("d", "import std.stdio;\nvoid main() {}\n", true, false),
            ("d", "/+ void main() {} +/", false, false),
            ("fortran", "! a program\n  program hello\n", true, false),
            ("fortran", "module program_list\nend module\n", false, false),
            ("fortran", "module a\ncontains\nend module\nend program\n", false, false),
            ("java", "import org.junit.jupiter.api.Test;\n", false, true),
            ("java", "import static org.junit.Assert.*;\n", false, true),
            ("java", "// import org.junit.Test;\n", false, false),
            ("kotlin", "import kotlin.test.Test\n", false, true),
        ] {
            let kind = catalogue.resolve(language).unwrap().sources.kind(source.as_bytes());
            assert_eq!((kind.has_main, kind.is_test), (has_main, is_test), "{language}: {source}");
        }
    }
}
