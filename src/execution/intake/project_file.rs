//! `execbox.toml` in a project's root: what the project says of how it is run. The request says it better, field by field.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::archive::{Contents, Project};
use crate::execution::intake::{IntakeError, Submission, caps};
use crate::limits::RequestedLimits;
use crate::runtime::{shown, with_nearest_key};

/// The file's name.
pub(super) const FILE: &str = "execbox.toml";
/// Longest file that is read for what it says of a project, in bytes.
pub(super) const MAX_BYTES: usize = 64 << 10;
/// Longest part of a message that quotes the file, in characters.
const MAX_QUOTE: usize = 300;

/// What it may say.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectFile {
    language: Option<String>,
    entrypoint: Option<String>,
    args: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    artifacts: Option<Vec<String>>,
    #[serde(default)]
    limits: FileLimits,
}

/// The fields of a request's `config`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    timeout_seconds: Option<f64>,
    compile_timeout_seconds: Option<f64>,
    memory_mb: Option<f64>,
    disk_mb: Option<f64>,
    cpus: Option<f64>,
    pids: Option<f64>,
    output_kb: Option<f64>,
}

/// Words that begin a message about a field of a request, and those for the same field here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FromFile(Vec<(&'static str, &'static str)>);

impl ProjectFile {
    /// Reads it, where the project has one. `contents` has it unless it is too long.
    pub(super) fn read(project: &Project, contents: &Contents) -> Result<Self, IntakeError> {
        if !project.entries().iter().any(|entry| entry.path == FILE) {
            return Ok(Self::default());
        }
        let too_long = || broken(format!("is over {MAX_BYTES} bytes"));
        let bytes = contents.get(FILE).ok_or_else(too_long)?;
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let (line, column) = place(&bytes[..error.valid_up_to()]);
            broken(format!("line {line}, column {column}: not UTF-8"))
        })?;
        // Editors of Windows write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let (line, column) = place(&text.as_bytes()[..start]);
            broken(format!("line {line}, column {column}: {}", quoted(&with_nearest_key(error.message()))))
        })
    }

    /// Fills in what the request leaves open. Variables of the request are added to those of the file, and win.
    pub(super) fn fill(self, submission: &mut Submission) -> Result<FromFile, IntakeError> {
        let mut from = FromFile::default();
        let env: Vec<_> = self.env.into_iter().collect();
        caps::env(&env).map_err(|error| FromFile(vec![("env_vars", "env")]).claim(error))?;
        submission.env.splice(0..0, env);
        from.take(&mut submission.language, self.language, ("language", "language"));
        from.take(&mut submission.entrypoint, self.entrypoint, ("entrypoint", "entrypoint"));
        from.take(&mut submission.args, self.args, ("script_args", "args"));
        from.take(&mut submission.artifacts, self.artifacts, ("artifacts", "artifacts"));
        let RequestedLimits {
            timeout_seconds,
            compile_timeout_seconds,
            memory_mb,
            disk_mb,
            cpus,
            pids,
            output_kb,
        } = &mut submission.limits;
        let file = self.limits;
        let compile = ("config.compile_timeout_seconds", "limits.compile_timeout_seconds");
        from.take(
            timeout_seconds,
            file.timeout_seconds,
            ("config.timeout_seconds", "limits.timeout_seconds"),
        );
        from.take(compile_timeout_seconds, file.compile_timeout_seconds, compile);
        from.take(memory_mb, file.memory_mb, ("config.memory_mb", "limits.memory_mb"));
        from.take(disk_mb, file.disk_mb, ("config.disk_mb", "limits.disk_mb"));
        from.take(cpus, file.cpus, ("config.cpus", "limits.cpus"));
        from.take(pids, file.pids, ("config.pids", "limits.pids"));
        from.take(output_kb, file.output_kb, ("config.output_kb", "limits.output_kb"));
        Ok(from)
    }
}

impl FromFile {
    fn take<T>(&mut self, field: &mut Option<T>, value: Option<T>, words: (&'static str, &'static str)) {
        if field.is_none() && value.is_some() {
            *field = value;
            self.0.push(words);
        }
    }

    /// The same error, saying that it is about the file where it is.
    pub(super) fn claim(&self, error: IntakeError) -> IntakeError {
        let own = self.0.iter().find_map(|(wire, own)| Some((own, error.message.strip_prefix(wire)?)));
        match own {
            Some((own, rest)) => IntakeError { message: format!("{FILE}: {own}{rest}"), ..error },
            None => error,
        }
    }
}

fn broken(rule: String) -> IntakeError {
    IntakeError::new("bad_project_file", format!("{FILE}: {rule}"))
}

/// Line and column, from 1, of what comes after this.
fn place(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

/// A message that may quote the file at any length.
fn quoted(message: &str) -> String {
    let line = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    if line.chars().count() <= MAX_QUOTE { line } else { shown(&line) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;

    fn read(text: &[u8]) -> Result<ProjectFile, IntakeError> {
        let spool = tempfile::tempdir().unwrap();
        let mut writer = ProjectWriter::new(spool.path(), Config::default().archive_limits()).unwrap();
        writer.file(FILE, text.len() as u64, false).unwrap();
        writer.data(text).unwrap();
        let project = writer.finish().unwrap();
        ProjectFile::read(&project, &project.contents(&[FILE], MAX_BYTES).unwrap())
    }

    #[test]
    fn every_key_may_be_there_or_not() {
        assert_eq!(read(b"").unwrap(), ProjectFile::default());
        let all = "language = \"python@3\"\nentrypoint = \"src/x.py\"\nargs = [\"-v\"]\nartifacts = [\"*.png\"]\n\
                   [env]\nA = \"1\"\n[limits]\ntimeout_seconds = 1.5\nmemory_mb = 64\n";
        let file = read(all.as_bytes()).unwrap();
        assert_eq!(
            (file.language.as_deref(), file.entrypoint.as_deref()),
            (Some("python@3"), Some("src/x.py"))
        );
        assert_eq!((file.args, file.env["A"].as_str()), (Some(vec!["-v".to_owned()]), "1"));
        assert_eq!((file.limits.timeout_seconds, file.limits.memory_mb), (Some(1.5), Some(64.0)));
    }

    #[test]
    fn a_faulty_file_is_told_with_its_line_and_column() {
        for (text, says) in [
            (
                &b"language = \"python\"\ncolour = 1\n"[..],
                "execbox.toml: line 2, column 1: unknown field `colour`",
            ),
            (b"[limits]\n  gpus = 1\n", "line 2, column 3: unknown field `gpus`; did you mean `cpus`?"),
            (b"language = 3", "line 1, column 12: invalid type"),
            (b"args = [\"a\", 1]", "line 1, column 14: invalid type"),
            (b"[limits]\nmemory_mb = \"64\"", "line 2, column 13: invalid type"),
            (b"language = \"a\"\nlanguage = \"b\"", "line 2, column 1: duplicate key"),
            (b"language = ", "line 1, column 12"),
            ("# \u{e9}\u{e9}\nx \u{e9}".as_bytes(), "line 2, column 3"),
            (b"# ok\n# \xff", "line 2, column 3: not UTF-8"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code, "bad_project_file");
            assert!(error.message.contains(says), "{error}");
        }
        let long = read(format!("{} = 1", "x".repeat(20_000)).as_bytes()).unwrap_err();
        assert!(long.message.len() < 500, "{}", long.message);
        let long = read(&vec![b'#'; MAX_BYTES + 1]).unwrap_err();
        assert!(long.message.contains("over 65536 bytes"), "{long}");
    }

    /// A test has a thread's stack, as a request that is checked has.
    #[test]
    fn a_file_that_nests_without_end_is_refused_at_once() {
        let (open, dots) = ("[".repeat(60_000), vec!["a"; 30_000].join("."));
        let inline = "{a=".repeat(20_000);
        let tables: String = (0..6_000).map(|at| format!("[a.b{at}.c]\n")).collect();
        for text in [
            format!("x = {open}"),
            format!("x = {open}{}", "]".repeat(5_000)),
            format!("{dots} = 1"),
            format!("[{dots}]"),
            format!("[[{dots}]]"),
            format!("[env]\n{dots} = 1"),
            format!("[env]\nx.{dots} = 1"),
            format!("args = [{open}"),
            format!("x = {inline}"),
            tables,
            "env.a = 1\n".repeat(6_000),
        ] {
            let text = &text[..text.len().min(MAX_BYTES)];
            let began = std::time::Instant::now();
            assert_eq!(read(text.as_bytes()).unwrap_err().code, "bad_project_file", "{}", &text[..40]);
            assert!(began.elapsed().as_secs() < 5, "{}: {:?}", &text[..40], began.elapsed());
        }
    }

    #[test]
    fn an_error_is_the_files_where_the_file_said_it() {
        let from = FromFile(vec![("config.pids", "limits.pids")]);
        let error = |message: &str| from.claim(IntakeError::new("x", message)).message;
        assert_eq!(error("config.pids is 0"), "execbox.toml: limits.pids is 0");
        assert_eq!(error("config.cpus is 0"), "config.cpus is 0");
    }
}
