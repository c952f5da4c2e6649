//! Argument templates: words with placeholders, filled in for one project. No shell ever sees them.

use globset::{Glob, GlobBuilder};

use crate::archive::{Entry, EntryKind};
use crate::runtime::error::shown;
use crate::runtime::{BUILD_DIR, Invocation, RuntimeError, WORKSPACE};

/// An argv template. If it exists, its placeholders are known and stand where they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Word>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// `{args}`: all arguments of the caller.
    Args,
    /// `{files:GLOB}`: all project files that match, sorted.
    Files(Glob),
    /// Exactly one argument.
    Text(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Entrypoint,
    Stem,
    Build,
}

impl Template {
    /// Reads a template as it stands in a `runtime.toml`.
    ///
    /// # Errors
    /// A sentence that names the word and what is wrong with it.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let words: Vec<Word> = words.iter().map(|word| parse_word(word)).collect::<Result<_, _>>()?;
        match words.first() {
            Some(Word::Text(pieces)) if !pieces.is_empty() => Ok(Self(words)),
            _ => Err("its first word must be the program to start".into()),
        }
    }

    /// Whether `{entrypoint}` is in it.
    pub(super) fn names_entrypoint(&self) -> bool {
        self.0.iter().any(|word| matches!(word, Word::Text(pieces) if pieces.contains(&Piece::Entrypoint)))
    }

    /// The arguments for one project.
    /// `is_given` says of a path whether the compiler gets the file.
    pub(super) fn render(
        &self,
        invocation: &Invocation<'_>,
        is_given: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, RuntimeError> {
        let mut argv = Vec::with_capacity(self.0.len() + invocation.args.len());
        for word in &self.0 {
            match word {
                Word::Args => argv.extend_from_slice(invocation.args),
                Word::Files(glob) => argv.extend(files(glob, invocation.entries, is_given)?),
                Word::Text(pieces) => argv.push(text(pieces, invocation.entrypoint)),
            }
        }
        Ok(argv)
    }
}

fn parse_word(word: &str) -> Result<Word, String> {
    if word == "{args}" {
        return Ok(Word::Args);
    }
    if let Some(glob) = word.strip_prefix("{files:").and_then(|rest| rest.strip_suffix('}')) {
        let glob = GlobBuilder::new(glob).literal_separator(true).build();
        return glob.map(Word::Files).map_err(|error| format!("`{word}`: {error}"));
    }
    parse_pieces(word).map(Word::Text)
}

fn parse_pieces(word: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest) = (Vec::new(), word);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| format!("`{word}`: a `{{` is not closed"))?;
        if !before.is_empty() {
            pieces.push(Piece::Literal(before.to_owned()));
        }
        pieces.push(match name {
            "entrypoint" => Piece::Entrypoint,
            "stem" => Piece::Stem,
            "build" => Piece::Build,
            "args" => return Err(format!("`{word}`: `{{args}}` must be a word of its own")),
            _ if name.starts_with("files:") => {
                return Err(format!("`{word}`: `{{files:...}}` must be a word of its own"));
            }
            _ => return Err(format!("`{word}`: `{{{name}}}` is no placeholder; {PLACEHOLDERS}")),
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

const PLACEHOLDERS: &str = "there are {entrypoint}, {stem}, {build}, {args} and {files:GLOB}";

fn files(
    glob: &Glob,
    entries: &[Entry],
    is_given: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, RuntimeError> {
    let matcher = glob.compile_matcher();
    let is_match =
        |entry: &&Entry| matches!(entry.kind, EntryKind::File { .. }) && matcher.is_match(&entry.path);
    let matching = entries.iter().filter(is_match).map(|entry| entry.path.as_str());
    let (given, left_out): (Vec<&str>, Vec<&str>) = matching.partition(|path| is_given(path));
    if given.is_empty() {
        let left_out = left_out.into_iter().map(shown).collect();
        return Err(RuntimeError::NoSources { glob: glob.glob().to_owned(), left_out });
    }
    let mut paths: Vec<String> = given.into_iter().map(as_operand).collect();
    paths.sort_unstable();
    Ok(paths)
}

fn text(pieces: &[Piece], entrypoint: &str) -> String {
    let mut word = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => word.push_str(literal),
            Piece::Entrypoint if word.is_empty() => word.push_str(&as_operand(entrypoint)),
            Piece::Entrypoint => word.push_str(entrypoint),
            Piece::Stem => word.push_str(stem(entrypoint)),
            Piece::Build => {
                word.push_str(WORKSPACE);
                word.push('/');
                word.push_str(BUILD_DIR);
            }
        }
    }
    word
}

/// A file called `-x` or `@x` would be read as an option, or as a file of options.
fn as_operand(path: &str) -> String {
    if path.starts_with(['-', '@']) { format!("./{path}") } else { path.to_owned() }
}

/// The file's name without folder and extension.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::runtime::Wants;

    fn parse(words: &[&str]) -> Result<Template, String> {
        Template::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    fn file(path: &str) -> Entry {
        Entry { path: path.into(), kind: EntryKind::File { size: 1, executable: false } }
    }

    fn render(words: &[&str], entrypoint: &str, args: &[&str], entries: &[Entry]) -> Vec<String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let invocation = Invocation {
            entrypoint,
            args: &args,
            env: &[],
            entries,
            apart: const { &BTreeSet::new() },
            wants: Wants::default(),
        };
        parse(words).unwrap().render(&invocation, &|_| true).unwrap()
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (words, entrypoint, argv) in [
            (&["run", "{entrypoint}"][..], "src/a.py", &["run", "src/a.py"][..]),
            (&["./{entrypoint}"], "a.py", &["./a.py"]),
            (&["{build}/{stem}"], "src/main.c", &["/work/.execbox/main"]),
            (&["x{stem}y{stem}"], ".hidden", &["x.hiddeny.hidden"]),
            (&["run", "{stem}"], "a.tar.gz", &["run", "a.tar"]),
            (&["run", "{entrypoint}"], "-c", &["run", "./-c"]),
            (&["run", "{entrypoint}"], "@opts", &["run", "./@opts"]),
            (&["run", ""], "a", &["run", ""]),
        ] {
            assert_eq!(render(words, entrypoint, &[], &[]), argv, "{words:?} for {entrypoint}");
        }
    }

    #[test]
    fn arguments_stay_words_of_their_own() {
        let argv = render(&["run", "{args}", "end"], "a", &["$(id)", "", "{stem}", "a b"], &[]);
        assert_eq!(argv, ["run", "$(id)", "", "{stem}", "a b", "end"]);
        assert_eq!(render(&["run", "{args}"], "a", &[], &[]), ["run"]);
    }

    #[test]
    fn files_are_matched_sorted_and_never_options() {
        let folder = Entry { path: "dir.c".into(), kind: EntryKind::Dir };
        let entries = [file("src/b.c"), file("a.c"), file("-x.c"), file("a.h"), folder];
        assert_eq!(
            render(&["cc", "{files:**/*.c}"], "a.c", &[], &entries),
            ["cc", "./-x.c", "a.c", "src/b.c"]
        );
        assert_eq!(render(&["cc", "{files:*.c}"], "a.c", &[], &entries), ["cc", "./-x.c", "a.c"]);
    }

    #[test]
    fn no_matching_file_is_an_error_with_the_glob() {
        let (entries, wants) = (&[file("a.txt")][..], Wants::default());
        let invocation = Invocation {
            entrypoint: "a.txt",
            args: &[],
            env: &[],
            entries,
            apart: const { &BTreeSet::new() },
            wants,
        };
        let error = parse(&["cc", "{files:**/*.c}"]).unwrap().render(&invocation, &|_| true).unwrap_err();
        assert!(error.to_string().contains("**/*.c"), "{error}");
    }

    #[test]
    fn faulty_templates_are_refused() {
        for (words, message) in [
            (&[][..], "first word"),
            (&["{args}"], "first word"),
            (&[""], "first word"),
            (&["run", "{entrypoint"], "not closed"),
            (&["run", "{home}"], "no placeholder"),
            (&["run", "{}"], "no placeholder"),
            (&["run", "--x={args}"], "word of its own"),
            (&["run", "-I{files:*.c}"], "word of its own"),
            (&["run", "{files:[}"], "{files:[}"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(message), "{words:?}: {error}");
        }
    }
}
