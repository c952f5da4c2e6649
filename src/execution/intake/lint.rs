//! `"lint": true`: the sources of the project are looked through for what is worth a word. Advice to people, or a rule that
//! a key holds; what a program can do is decided by its container alone (`docs/lint.md`).

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use crate::archive::Project;
use crate::execution::intake::start::Start;
use crate::execution::intake::{AcceptError, IntakeError};
use crate::runtime::shown;

/// Most source files that are read.
const MAX_FILES: usize = 1_000;
/// Most of each, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Most of all together, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// Most findings that are told; no more are looked for.
const MAX_FINDINGS: usize = 50;

/// What is made of findings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LintMode {
    /// Nobody looks.
    #[default]
    Off,
    /// They are notices of the result.
    Advise,
    /// They are the reason why the program does not run.
    Block,
}

/// What was found.
#[derive(Default)]
struct Report {
    /// By file, each as it is told.
    findings: BTreeMap<String, Vec<String>>,
    /// How many there are.
    count: usize,
    /// Something may have been left out.
    is_cut: bool,
}

/// The notices for a project. Blocks on the disk.
pub(super) fn notices(project: &Project, start: &Start, mode: LintMode) -> Result<Vec<String>, AcceptError> {
    if mode == LintMode::Off {
        return Ok(Vec::new());
    }
    let report = look(project, start)?;
    let mut told: Vec<String> = report.findings.into_values().flatten().collect();
    if report.is_cut {
        told.push(format!(
            "not all was looked at: the lint ends after {MAX_FINDINGS} findings, {MAX_FILES} files, {MAX_FILE_BYTES} \
             bytes of a file or {MAX_BYTES} bytes in all"
        ));
    }
    if mode == LintMode::Block && !told.is_empty() {
        let message =
            format!("lint: this key runs no program of which this is to be said: {}", told.join("; "));
        return Err(IntakeError::new("lint_refused", message).into());
    }
    Ok(told.into_iter().map(|text| format!("lint: {text}")).collect())
}

/// Goes through the sources of the language, in the order of the archive.
fn look(project: &Project, start: &Start) -> io::Result<Report> {
    let mut report = Report::default();
    let (mut files, mut bytes, mut is_left_out) = (0, 0, false);
    let wanted = |path: &str, size: u64| {
        if path != start.entrypoint && !start.runtime.has_extension(path) {
            return None;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let cap = size.min(MAX_FILE_BYTES).min(MAX_BYTES - bytes);
        is_left_out |= cap < size || files == MAX_FILES;
        files += 1;
        bytes += cap;
        (files <= MAX_FILES).then_some(cap)
    };
    project.each_file(wanted, |path, content| {
        report.look_at(path, &content, start);
        if report.count < MAX_FINDINGS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    report.is_cut |= is_left_out;
    Ok(report)
}

impl Report {
    fn look_at(&mut self, path: &str, content: &[u8], start: &Start) {
        let Some(found) = start.runtime.lint.findings(content, MAX_FINDINGS - self.count) else {
            self.is_cut = true;
            return;
        };
        self.count += found.len();
        self.is_cut |= self.count == MAX_FINDINGS;
        let told = found.iter().map(|found| format!("{}:{}: {}", shown(path), found.line, found.message));
        self.findings.insert(path.to_owned(), told.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;
    use crate::runtime::Catalogue;

    fn lint(
        language: &str,
        entrypoint: &str,
        files: &[(&str, &[u8])],
        mode: LintMode,
    ) -> Result<Vec<String>, AcceptError> {
        let spool = tempfile::tempdir().unwrap();
        let mut writer = ProjectWriter::new(spool.path(), Config::default().archive_limits()).unwrap();
        for (path, content) in files {
            writer.file(path, content.len() as u64, false).unwrap();
            writer.data(content).unwrap();
        }
        let runtime = Catalogue::load(None).unwrap().resolve(language).unwrap();
        notices(
            &writer.finish().unwrap(),
            &Start { runtime, entrypoint: entrypoint.into(), is_chosen: true },
            mode,
        )
    }

    #[test]
    fn sources_of_the_language_are_told_by_file_and_line() {
        let files: [(&str, &[u8]); 4] = [
            ("main.py", b"x = 1\n\nimport subprocess\neval('1')\n"),
            ("lib/net.py", b"from socket import socket\n"),
            ("notes.txt", b"import subprocess\n"),
            ("tool", b"exec('x')\n"),
        ];
        let told = [
            "lint: lib/net.py:1: opens network connections; programs run without a network",
            "lint: main.py:3: starts other programs",
            "lint: main.py:4: runs text as code",
        ];
        assert_eq!(lint("python", "main.py", &files, LintMode::Advise).unwrap(), told);
        // The entrypoint is a source, whatever it is called.
        assert_eq!(lint("python-data", "tool", &files[3..], LintMode::Advise).unwrap().len(), 1);
        assert!(lint("python", "main.py", &files, LintMode::Off).unwrap().is_empty());
    }

    #[test]
    fn a_key_that_blocks_refuses_with_all_that_was_found() {
        let error = lint("bash", "main.sh", &[("main.sh", b"eval \"$1\"\ncurl x\n")], LintMode::Block);
        let AcceptError::Refused(error) = error.unwrap_err() else { panic!("not refused") };
        assert_eq!(error.code, "lint_refused");
        assert!(error.message.contains("main.sh:1: runs text as code; main.sh:2: opens"), "{error}");
        assert!(lint("bash", "main.sh", &[("main.sh", b"echo hello")], LintMode::Block).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_looked_at_is_said_and_blocks() {
        let lines = "eval(x)\n".repeat(200);
        let told = lint("python", "a.py", &[("a.py", lines.as_bytes())], LintMode::Advise).unwrap();
        assert_eq!(told.len(), MAX_FINDINGS + 1);
        assert!(told[MAX_FINDINGS].contains("not all was looked at"), "{told:?}");
        let hidden = [vec![b'#'; MAX_FILE_BYTES], b"\nimport subprocess\n".to_vec()].concat();
        let told = lint("python", "a.py", &[("a.py", &hidden)], LintMode::Advise).unwrap();
        assert!(told.len() == 1 && told[0].contains("not all was looked at"), "{told:?}");
        assert!(lint("python", "a.py", &[("a.py", &hidden)], LintMode::Block).is_err());
        let many: Vec<String> = (0..=MAX_FILES).map(|at| format!("m{at}.py")).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|path| (path.as_str(), &b""[..])).collect();
        assert!(lint("python", "m0.py", &many, LintMode::Block).is_err());
        assert!(lint("python", "m0.py", &many[1..], LintMode::Block).is_ok());
    }

    /// A line of each language that starts a program, or does what comes nearest to it.
    #[test]
    fn every_language_has_something_to_say() {
        for (language, line) in [
            ("bash", "eval x"),
            ("c", "system(x);"),
            ("c++", "popen(x);"),
            ("c#", "Process.Start(x);"),
            ("d", "executeShell(x);"),
            ("elixir", "System.cmd(x, [])"),
            ("fortran", "call execute_command_line (x)"),
            ("go", "import \"os/exec\""),
            ("haskell", "import System.Process"),
            ("java", "new ProcessBuilder(x)"),
            ("kotlin", "ProcessBuilder(x)"),
            ("lisp", "(sb-ext:run-program x)"),
            ("lua", "os.execute(x)"),
            ("node", "require('node:child_process')"),
            ("ocaml", "Sys.command x"),
            ("octave", "system(x)"),
            ("pascal", "ExecuteProcess(x)"),
            ("perl", "system($x);"),
            ("php", "shell_exec($x);"),
            ("prolog", "shell(x)."),
            ("python", "import subprocess"),
            ("python@3.11", "os.system(x)"),
            ("python-data", "import subprocess"),
            ("r", "system(x)"),
            ("ruby", "system x"),
            ("rust", "std::process::Command::new(x)"),
            ("scala", "new ProcessBuilder(x)"),
            ("scheme", "(system x)"),
            ("sqlite", ".shell ls"),
            ("tcl", "exec ls"),
            ("typescript", "import x from 'child_process'"),
            ("zig", "std.process.Child.init"),
        ] {
            let told = lint(language, "x", &[("x", line.as_bytes())], LintMode::Advise).unwrap();
            assert!(!told.is_empty(), "{language}: {line}");
        }
        for runtime in Catalogue::load(None).unwrap().runtimes() {
            assert_eq!(runtime.lint.findings(b"", 1), Some(Vec::new()), "{}", runtime.name);
            assert!(!runtime.lint.is_empty(), "{}", runtime.name);
        }
    }
}
