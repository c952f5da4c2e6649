//! The script contract: the data that a program is given beside its files, and the file by which it gets it.

use std::io;

use serde::Serialize;

use crate::archive::{Entry, EntryKind, Project};
use crate::execution::intake::{AcceptError, IntakeError, project_file};
use crate::execution::json::Json;
use crate::limits::LimitPolicy;
use crate::runner::WORKSPACE;
use crate::runtime::{BUILD_DIR, Command, INPUT_VARIABLE, Wants, shown};

/// The file's name in the folder that no project may bring, and of which nothing comes back.
const FILE: &str = "input.json";
/// Names of the plots that are kept.
const PLOTS: &str = "plot_*.png";
/// Characters of a function's name.
const MAX_CALL: usize = 128;

/// What a request asks for beside running a program.
#[derive(Debug, Default)]
pub struct Script {
    /// Names for data in and results out exist without an import.
    pub names: bool,
    /// A function of the entrypoint to call.
    pub call: Option<String>,
    /// Plots that are open at the end become artifacts.
    pub capture_plots: bool,
    /// For the program.
    pub parameters: Option<Json>,
    /// For the program.
    pub input_data: Option<Json>,
}

/// What stands in the file. `docs/scripts.md` describes it to those who read it without a library.
#[derive(Serialize)]
struct Input<'a> {
    workspace: &'a str,
    parameters: Option<&'a Json>,
    input_data: Option<&'a Json>,
    uploaded_files: Vec<&'a str>,
    entrypoint: &'a str,
    script: bool,
    call: Option<&'a str>,
    capture_plots: bool,
    eval_last_expr: bool,
}

impl Script {
    /// The program gets the file.
    pub(super) fn is_asked(&self) -> bool {
        let given = self.parameters.is_some() || self.input_data.is_some();
        given || self.names || self.call.is_some() || self.capture_plots
    }

    /// What the runtime must be able to do.
    pub(super) fn wants(&self, eval: bool) -> Wants {
        Wants { eval, script: self.names, call: self.call.is_some(), plots: self.capture_plots }
    }

    /// The name can be a function's, and the data is within its cap.
    pub(super) fn check(&self, policy: &LimitPolicy, eval: bool) -> Result<(), IntakeError> {
        if let Some(name) = self.call.as_deref().filter(|name| !is_function_name(name)) {
            let message = format!(
                "call: `{}` must be the name of a function: 1 to {MAX_CALL} letters, digits, `_`, `.` and `$`, with \
                 no digit first",
                shown(name)
            );
            return Err(IntakeError::new("bad_call", message));
        }
        if eval && self.call.is_some() {
            let message = "give either `call` or `eval_last_expr`; the value of a call is its `return_value`";
            return Err(IntakeError::new("invalid_value", message));
        }
        let data = self.parameters.iter().chain(&self.input_data);
        let bytes: usize = data.map(|json| json.get().len()).sum();
        if bytes as u64 > policy.input_bytes {
            let most = policy.input_bytes;
            let message = format!("parameters and input_data: {bytes} bytes are over the limit of {most}");
            return Err(IntakeError::new("input_too_large", message));
        }
        Ok(())
    }

    /// Globs of what comes back: whoever asks for plots and for other files by name gets both.
    pub(super) fn artifacts(&self, globs: Option<Vec<String>>) -> Option<Vec<String>> {
        let plots = self.capture_plots.then(|| PLOTS.to_owned());
        globs.map(|globs| globs.into_iter().chain(plots).collect())
    }

    /// Puts the file into the project, and its name into the environment, where there is something to say.
    pub(super) fn hand_over(
        &self,
        project: &mut Project,
        command: &mut Command,
        entrypoint: &str,
        eval: bool,
        disk_bytes: u64,
    ) -> Result<(), AcceptError> {
        if !self.is_asked() {
            return Ok(());
        }
        let input = Input {
            workspace: WORKSPACE,
            parameters: self.parameters.as_ref(),
            input_data: self.input_data.as_ref(),
            uploaded_files: uploaded(project.entries(), entrypoint),
            entrypoint,
            script: self.names,
            call: self.call.as_deref(),
            capture_plots: self.capture_plots,
            eval_last_expr: eval,
        };
        let input = serde_json::to_vec(&input).map_err(io::Error::from)?;
        if project.bytes().saturating_add(input.len() as u64) > disk_bytes {
            let message = format!(
                "the project with its parameters and input_data does not fit a workspace of {disk_bytes} bytes; ask \
                 for more `config.disk_mb`"
            );
            return Err(IntakeError::new("project_too_large", message).into());
        }
        let path = format!("{BUILD_DIR}/{FILE}");
        project.append(&path, &input)?;
        command.env.push((INPUT_VARIABLE.to_owned(), format!("{WORKSPACE}/{path}")));
        Ok(())
    }
}

/// The project's files without the program itself and what says how it is run, in the order in which they came.
fn uploaded<'a>(entries: &'a [Entry], entrypoint: &str) -> Vec<&'a str> {
    let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    files
        .map(|entry| entry.path.as_str())
        .filter(|path| *path != entrypoint && *path != project_file::FILE)
        .collect()
}

fn is_function_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || b"_.$".contains(&byte);
    name.len() <= MAX_CALL
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;
    use crate::runner::frame::Decoder;

    fn json(text: &str) -> Option<Json> {
        Some(Json::parse(text).unwrap())
    }

    #[test]
    fn names_and_sizes_are_checked() {
        let policy = LimitPolicy { input_bytes: 10, ..Config::default().limit_policy() };
        let call = |name: &str| Script { call: Some(name.into()), ..Script::default() };
        let data = |text: &str| Script { parameters: json(text), input_data: json("1"), ..Script::default() };
        for (script, eval, code) in [
            (call("main"), false, None),
            (call("_a1.b$"), false, None),
            (call(&"x".repeat(128)), false, None),
            (call(&"x".repeat(129)), false, Some("bad_call")),
            (call(""), false, Some("bad_call")),
            (call("1a"), false, Some("bad_call")),
            (call("main()"), false, Some("bad_call")),
            (call("a b"), false, Some("bad_call")),
            (call("os.system('x')"), false, Some("bad_call")),
            (call("m\u{e4}in"), false, Some("bad_call")),
            (call("main"), true, Some("invalid_value")),
            (data("\"1234567\""), true, None),
            (data("\"12345678\""), false, Some("input_too_large")),
        ] {
            let refused = script.check(&policy, eval).err();
            assert_eq!(refused.as_ref().map(|error| error.code), code, "{script:?}");
        }
    }

    #[test]
    fn the_file_goes_with_the_project_and_is_none_of_its_entries() {
        let spool = tempfile::tempdir().unwrap();
        for size in [1, 100_000] {
            let mut writer = ProjectWriter::new(spool.path(), Config::default().archive_limits()).unwrap();
            for path in ["z.csv", "main.py", "a/b.csv"] {
                writer.file(path, size, false).unwrap();
                writer.data(&vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
            }
            let mut project = writer.finish().unwrap();
            let entries = project.entries().to_vec();
            let mut command = Command { compile: None, run: Vec::new(), env: Vec::new() };
            let disk = 10 << 20;
            Script::default().hand_over(&mut project, &mut command, "main.py", true, disk).unwrap();
            assert_eq!((command.env.len(), project.bytes()), (0, 3 * size), "nothing to say, no file");

            let script = Script { parameters: json(r#"{"b": 1.50, "a": null}"#), ..Script::default() };
            let full = script.hand_over(&mut project, &mut command, "main.py", false, 3 * size + 9);
            let AcceptError::Refused(full) = full.unwrap_err() else { panic!("the disk is not full") };
            assert_eq!(full.code, "project_too_large");
            script.hand_over(&mut project, &mut command, "main.py", false, disk).unwrap();
            assert_eq!(command.env, [("EXECBOX_INPUT".to_owned(), "/work/.execbox/input.json".to_owned())]);
            assert_eq!(project.entries(), entries);
            let frames = project.frames().read().unwrap();
            let mut decoder = Decoder::default();
            decoder.push(&frames);
            let mut last = Vec::new();
            while let Some(frame) = decoder.next_frame().unwrap() {
                last = frame.payload.to_vec();
            }
            let input = r#"{"workspace":"/work","parameters":{"b": 1.50, "a": null},"input_data":null,"uploaded_files":["z.csv","a/b.csv"],"entrypoint":"main.py","script":false,"call":null,"capture_plots":false,"eval_last_expr":false}"#;
            assert_eq!(String::from_utf8(last).unwrap(), input);
            assert_eq!(project.bytes(), 3 * size + input.len() as u64);
        }
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "the spool is empty again");
    }
}
