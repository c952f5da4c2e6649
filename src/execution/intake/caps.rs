//! Caps and grammars of a submission's fields. Each check names the field in its message.

use std::collections::BTreeMap;

use crate::archive::{Entry, EntryKind};
use crate::execution::intake::IntakeError;
use crate::limits::Limits;
use crate::runner::frame::MAX_PAYLOAD;
use crate::runtime::{BUILD_DIR, Command, is_env_name, shown};

/// Arguments of a program, and variables of its environment.
const MAX_WORDS: usize = 1_000;
/// Bytes of all arguments; and again of all variables, with their names.
const MAX_WORD_BYTES: usize = 128 << 10;
/// Bytes of one argument, or of one `NAME=value`: the kernel refuses longer ones.
const MAX_ONE_WORD_BYTES: usize = (128 << 10) - 1;
/// Labels of an execution.
const MAX_LABELS: usize = 64;
/// Characters of a label's key.
const MAX_LABEL_KEY: usize = 63;
/// Characters of a label's value.
const MAX_LABEL_VALUE: usize = 256;
/// Globs of artifacts.
const MAX_GLOBS: usize = 100;
/// Bytes of one glob.
const MAX_GLOB_BYTES: usize = 1_024;
/// Bytes that the filled-in command may take in the runner's first frame, escaped. The rest is room for the globs.
const MAX_COMMAND_BYTES: usize = MAX_PAYLOAD * 3 / 4;
/// A tmpfs gives each file whole pages.
const PAGE: u64 = 4_096;
/// Variables that the server and the runner set.
const RESERVED_ENV: &str = "EXECBOX_";

type Checked = Result<(), IntakeError>;

fn refuse(code: &'static str, message: impl Into<String>) -> Checked {
    Err(IntakeError::new(code, message))
}

/// The project fits the workspace, and leaves the compiler's folder alone.
pub(super) fn project(entries: &[Entry], limits: &Limits) -> Checked {
    let in_build_dir = |entry: &Entry| entry.path.split('/').next().is_some_and(|first| first == BUILD_DIR);
    if entries.iter().any(in_build_dir) {
        return refuse(
            "bad_path",
            format!("`{BUILD_DIR}` is reserved for the compiler; name it differently"),
        );
    }
    let pages = |entry: &Entry| match entry.kind {
        EntryKind::File { size, .. } => size.div_ceil(PAGE),
        EntryKind::Dir => 0,
    };
    let bytes = entries.iter().map(pages).fold(0, u64::saturating_add).saturating_mul(PAGE);
    if bytes > limits.disk_bytes {
        let room = limits.disk_bytes;
        let message = format!(
            "the project takes {bytes} bytes of a workspace of {room}; ask for more `config.disk_mb`"
        );
        return refuse("project_too_large", message);
    }
    let (count, most) = (entries.len(), limits.disk_inodes);
    if count as u64 >= most {
        return refuse(
            "project_too_large",
            format!("the project's {count} entries are over the limit of {most}"),
        );
    }
    Ok(())
}

/// Arguments of the program.
pub(super) fn args(args: &[String]) -> Checked {
    if args.len() > MAX_WORDS {
        let message = format!("script_args: {} arguments are over the limit of {MAX_WORDS}", args.len());
        return refuse("bad_args", message);
    }
    if let Some(at) = args.iter().position(|arg| arg.contains('\0')) {
        return refuse("bad_args", format!("script_args[{at}] holds a NUL, which no argument can"));
    }
    if let Some(at) = args.iter().position(|arg| arg.len() > MAX_ONE_WORD_BYTES) {
        return refuse("bad_args", format!("script_args[{at}] is over {MAX_ONE_WORD_BYTES} bytes"));
    }
    let bytes: usize = args.iter().map(String::len).sum();
    if bytes > MAX_WORD_BYTES {
        let message = format!("script_args: {bytes} bytes in all are over the limit of {MAX_WORD_BYTES}");
        return refuse("bad_args", message);
    }
    Ok(())
}

/// Variables of the environment.
pub(super) fn env(env: &[(String, String)]) -> Checked {
    if env.len() > MAX_WORDS {
        let message = format!("env_vars: {} variables are over the limit of {MAX_WORDS}", env.len());
        return refuse("bad_env", message);
    }
    for (name, value) in env {
        let name_shown = shown(name);
        if !is_env_name(name) {
            let message =
                format!("env_vars: `{name_shown}` must be letters, digits and _, with no digit first");
            return refuse("bad_env", message);
        }
        if name.starts_with(RESERVED_ENV) {
            let message =
                format!("env_vars: `{name_shown}` is reserved, as all that starts with {RESERVED_ENV}");
            return refuse("bad_env", message);
        }
        if value.contains('\0') {
            return refuse("bad_env", format!("env_vars: `{name_shown}` holds a NUL, which no variable can"));
        }
        if name.len() + 1 + value.len() > MAX_ONE_WORD_BYTES {
            return refuse("bad_env", format!("env_vars: `{name_shown}` is over {MAX_ONE_WORD_BYTES} bytes"));
        }
    }
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_WORD_BYTES {
        let message = format!("env_vars: {bytes} bytes in all are over the limit of {MAX_WORD_BYTES}");
        return refuse("bad_env", message);
    }
    Ok(())
}

/// The caller's own words.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Checked {
    if labels.len() > MAX_LABELS {
        return refuse("bad_labels", format!("labels: {} are over the limit of {MAX_LABELS}", labels.len()));
    }
    for (key, value) in labels {
        let key_shown = shown(key);
        if key.is_empty() || key.chars().count() > MAX_LABEL_KEY {
            let message = format!("labels: the key `{key_shown}` must have 1 to {MAX_LABEL_KEY} characters");
            return refuse("bad_labels", message);
        }
        if value.chars().count() > MAX_LABEL_VALUE {
            let message =
                format!("labels: the value of `{key_shown}` must have at most {MAX_LABEL_VALUE} characters");
            return refuse("bad_labels", message);
        }
    }
    Ok(())
}

/// Globs of the files to return.
pub(super) fn artifacts(globs: Option<&[String]>) -> Checked {
    let globs = globs.unwrap_or_default();
    if globs.len() > MAX_GLOBS {
        let message = format!("artifacts: {} globs are over the limit of {MAX_GLOBS}", globs.len());
        return refuse("bad_artifacts", message);
    }
    globs.iter().try_for_each(|glob| artifact_glob(glob))
}

fn artifact_glob(glob: &str) -> Checked {
    let wrong = |rule: String| refuse("bad_artifacts", format!("artifacts: `{}` {rule}", shown(glob)));
    if glob.is_empty() || glob.len() > MAX_GLOB_BYTES {
        return wrong(format!("must have 1 to {MAX_GLOB_BYTES} bytes"));
    }
    if glob.starts_with('/') || glob.contains('\0') || glob.split('/').any(|part| part == "..") {
        return wrong("must be relative to the workspace, without `..`".into());
    }
    match globset::Glob::new(glob) {
        Ok(_) => Ok(()),
        Err(error) => wrong(format!("is no glob: {}", error.kind())),
    }
}

/// The filled-in command fits the runner's first frame, whatever the names of the project's files.
pub(super) fn command(command: &Command) -> Checked {
    let parts = (&command.compile, &command.run, &command.env);
    // Made of strings; it always serialises.
    let bytes = serde_json::to_vec(&parts).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_COMMAND_BYTES {
        let message = format!(
            "the command with its arguments, variables and file names takes {bytes} bytes, over the limit of \
             {MAX_COMMAND_BYTES}"
        );
        return refuse("command_too_long", message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn file(path: &str, size: u64) -> Entry {
        Entry { path: path.into(), kind: EntryKind::File { size, executable: false } }
    }

    /// `None` for what must pass, else the code and a piece of the message.
    #[track_caller]
    fn expect(checked: Checked, refusal: Option<(&str, &str)>) {
        match (checked, refusal) {
            (Ok(()), None) => {}
            (Err(error), Some((code, says))) => {
                assert_eq!(error.code, code, "{error}");
                assert!(error.message.contains(says), "{error}");
                assert!(error.message.len() < 300, "too long to be read: {error}");
            }
            (checked, refusal) => panic!("{checked:?}, not {refusal:?}"),
        }
    }

    #[test]
    fn arguments() {
        for (given, refusal) in [
            (vec![], None),
            (words(&["", "a b", "$(id)", "\u{1f600}\n"]), None),
            (vec!["x".into(); 1_000], None),
            (vec!["x".into(); 1_001], Some("1001 arguments")),
            (vec!["x".repeat(131_071)], None),
            (vec!["x".repeat(131_072)], Some("script_args[0]")),
            (vec!["x".repeat(70_000); 2], Some("140000 bytes in all")),
            (words(&["ok", "a\0b"]), Some("script_args[1] holds a NUL")),
        ] {
            expect(args(&given), refusal.map(|says| ("bad_args", says)));
        }
    }

    #[test]
    fn variables() {
        let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (given, refusal) in [
            (vec![], None),
            (one("_a1", ""), None),
            (one("LD_PRELOAD", "/work/x.so"), None),
            (one("A", "x=y"), None),
            (vec![("A".into(), "x".into()); 1_000], None),
            (vec![("A".into(), "x".into()); 1_001], Some("1001 variables")),
            (one("", "x"), Some("``")),
            (one("1A", "x"), Some("`1A`")),
            (one("A B", "x"), Some("`A B`")),
            (one("A=B", "x"), Some("`A=B`")),
            (one("\u{c4}", "x"), Some(r"`\u{c4}`")),
            (one("A\0", "x"), Some(r"`A\u{0}`")),
            (one(&"@".repeat(10_000), "x"), Some("@@@...")),
            (one("EXECBOX_RESULT_FD", "1"), Some("reserved")),
            (one("A", "a\0b"), Some("`A` holds a NUL")),
            (one("A", &"x".repeat(131_069)), None),
            (one("A", &"x".repeat(131_070)), Some("`A` is over")),
            (vec![("A".into(), "x".repeat(70_000)); 2], Some("140002 bytes in all")),
        ] {
            expect(env(&given), refusal.map(|says| ("bad_env", says)));
        }
    }

    #[test]
    fn labels_have_short_keys_and_values() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let many = |count: usize| (0..count).map(|at| (at.to_string(), String::new())).collect();
        for (given, refusal) in [
            (many(64), None),
            (many(65), Some("65 are over the limit of 64")),
            (one(&"\u{e9}".repeat(63), &"\u{e9}".repeat(256)), None),
            (one("", "x"), Some("key ``")),
            (one(&"k".repeat(64), "x"), Some("1 to 63 characters")),
            (one("k", &"v".repeat(257)), Some("value of `k`")),
        ] {
            expect(labels(&given), refusal.map(|says| ("bad_labels", says)));
        }
    }

    #[test]
    fn artifact_globs() {
        expect(artifacts(None), None);
        expect(artifacts(Some(&[])), None);
        for (given, refusal) in [
            (words(&["*.png", "out/**", "{a,b}.txt", "[!x]*", "a..b"]), None),
            (vec!["*".into(); 100], None),
            (vec!["*".into(); 101], Some("101 globs")),
            (words(&[""]), Some("``")),
            (words(&["ok", "a/../b"]), Some("`a/../b` must be relative")),
            (words(&[".."]), Some("`..`")),
            (words(&["/etc/*"]), Some("`/etc/*`")),
            (words(&["a\0"]), Some("relative to the workspace")),
            (words(&["[a"]), Some("`[a` is no glob: ")),
            (words(&["{a,b"]), Some("is no glob")),
            (vec!["x".repeat(1_025)], Some("1 to 1024 bytes")),
        ] {
            expect(artifacts(Some(&given)), refusal.map(|says| ("bad_artifacts", says)));
        }
    }

    #[test]
    fn a_project_must_fit_its_workspace() {
        let mut limits = crate::config::Config::default().limit_policy().default;
        (limits.disk_bytes, limits.disk_inodes) = (3 * PAGE, 5);
        let folder = Entry { path: "a".into(), kind: EntryKind::Dir };
        for (entries, refusal) in [
            (vec![], None),
            (vec![folder, file("a/b", 1), file("c", PAGE + 1)], None),
            (vec![file("a", 1), file("b", 2 * PAGE + 1)], Some(("project_too_large", "config.disk_mb"))),
            (vec![file("a", u64::MAX); 3], Some(("project_too_large", "a workspace of 12288"))),
            (vec![file("a", 0); 4], None),
            (vec![file("a", 0); 5], Some(("project_too_large", "5 entries"))),
            (vec![file(".execbox/main", 0)], Some(("bad_path", "`.execbox` is reserved"))),
            (vec![file(".execbox", 0)], Some(("bad_path", "`.execbox` is reserved"))),
            (vec![file("a/.execbox", 0), file(".execboxes", 0)], None),
        ] {
            expect(project(&entries, &limits), refusal);
        }
    }

    #[test]
    fn a_command_must_fit_the_first_frame() {
        let with = |arg: String| Command { compile: Some(vec!["cc".into(), arg]), run: vec![], env: vec![] };
        expect(command(&with("x".repeat(700_000))), None);
        // Control characters take six bytes each in a message.
        expect(command(&with("\u{1}".repeat(140_000))), Some(("command_too_long", "over the limit")));
    }
}
