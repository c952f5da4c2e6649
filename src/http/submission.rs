//! From what a caller sent to what the execution layer checks: defaults, inline files.

use actix_web::web;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::archive::{ArchiveLimits, Contents, Entry, EntryKind, Project, ProjectWriter};
use crate::execution::intake::{LintMode, RequestedDependencies, Script, Submission};
use crate::execution::spec::Stdin;
use crate::http::error::{ApiError, Code};
use crate::http::request::{Encoding, ExecRequest, InlineFile};
use crate::limits::RequestedLimits;
use crate::runtime::Catalogue;

/// A JSON body with its files, from which a project can be written.
pub(super) struct Inline {
    pub(super) request: ExecRequest,
    files: Vec<(String, Vec<u8>)>,
}

impl Inline {
    /// Takes the inline files out of a JSON body.
    pub(super) fn new(mut request: ExecRequest, catalogue: &Catalogue) -> Result<Self, ApiError> {
        request.drop_empty();
        let files = match (request.files.take(), request.code.take()) {
            (Some(files), _) if !files.is_empty() => {
                default_to_first(&mut request, &files, catalogue);
                files.into_iter().enumerate().map(decode).collect::<Result<_, _>>()?
            }
            (_, Some(code)) => vec![(name_code(&mut request, catalogue), code.into_bytes())],
            _ => return Err(ApiError::new(Code::MissingCode, "give the program as `code` or `files`")),
        };
        Ok(Self { request, files })
    }

    /// Sum of the files' sizes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.files.iter().map(|(_, content)| content.len()).sum()
    }

    /// Spools the files; on a thread of its own, for it writes to disk.
    pub(super) async fn write(
        self,
        spool: std::path::PathBuf,
        limits: ArchiveLimits,
    ) -> Result<(ExecRequest, Project), ApiError> {
        let Self { request, files } = self;
        let written = web::block(move || {
            let mut writer = ProjectWriter::new(&spool, limits)?;
            for (name, content) in &files {
                writer.file(name, content.len() as u64, false)?;
                writer.data(content)?;
            }
            writer.finish()
        });
        let project = written.await.map_err(|error| ApiError::internal(&error))??;
        Ok((request, project))
    }
}

/// python-executor runs the first file when there is no `main.py`; other languages have their own way to find it, and a
/// project may say it itself.
fn default_to_first(request: &mut ExecRequest, files: &[InlineFile], catalogue: &Catalogue) {
    let said = ["main.py", "__main__.py", "execbox.toml"];
    let undecided = request.entrypoint.is_none()
        && request.language.is_none()
        && files.iter().all(|file| !said.contains(&file.name.as_str()));
    let Some(first) =
        files.first().filter(|first| undecided && first.name.to_ascii_lowercase().ends_with(".py"))
    else {
        return;
    };
    let kind = EntryKind::File { size: 0, executable: false };
    let entries: Vec<Entry> = files.iter().map(|file| Entry { path: file.name.clone(), kind }).collect();
    let found = catalogue.detect(&catalogue.view(&entries, &Contents::new()));
    if found.is_ok_and(|runtime| runtime.name == "python") {
        request.entrypoint = Some(first.name.clone());
    }
}

/// The file that `code` becomes: the entrypoint, else what the language usually starts with. Python is the default.
fn name_code(request: &mut ExecRequest, catalogue: &Catalogue) -> String {
    if let Some(name) = &request.entrypoint {
        return name.clone();
    }
    if request.language.is_none() && request.python_version.is_none() {
        request.language = Some("python".into());
    }
    let language = request.language.as_deref().unwrap_or("python");
    // A language that does not exist is refused later, with what it could have been.
    let runtime = catalogue.resolve(language).ok();
    let usual = runtime.as_ref().and_then(|runtime| runtime.first_entrypoint());
    usual.unwrap_or("main").to_owned()
}

fn decode((index, file): (usize, InlineFile)) -> Result<(String, Vec<u8>), ApiError> {
    let content = match file.encoding {
        Encoding::Utf8 => file.content.into_bytes(),
        Encoding::Base64 => BASE64_STANDARD.decode(&file.content).map_err(|error| {
            ApiError::new(Code::InvalidValue, format!("files[{index}].content is not base64: {error}"))
        })?,
    };
    Ok((file.name, content))
}

impl ExecRequest {
    /// Clients of python-executor send empty strings for what they leave out.
    fn drop_empty(&mut self) {
        for field in [&mut self.entrypoint, &mut self.language, &mut self.python_version, &mut self.call] {
            field.take_if(|text| text.is_empty());
        }
    }

    /// Packages that are asked for. Empty fields ask for nothing.
    pub(super) fn take_dependencies(&mut self) -> RequestedDependencies {
        RequestedDependencies {
            requirements_txt: self.requirements_txt.take().filter(|text| !text.trim().is_empty()),
            files: self.dependencies.take().unwrap_or_default(),
            install: self.install.unwrap_or(false),
            pre_commands: self.pre_commands.take().unwrap_or_default(),
        }
    }

    /// The first field that makes a language's helper run the program.
    pub(super) fn helped(&self) -> Option<&'static str> {
        let asked = [
            ("eval_last_expr", self.eval_last_expr == Some(true)),
            ("script", self.script == Some(true)),
            ("call", self.call.as_ref().is_some_and(|name| !name.is_empty())),
            ("capture_plots", self.capture_plots == Some(true)),
        ];
        asked.into_iter().find(|(_, asked)| *asked).map(|(field, _)| field)
    }

    /// What the execution layer checks.
    pub(super) fn into_submission(mut self, project: Project) -> Result<Submission, ApiError> {
        if self.code.is_some() || self.files.is_some() {
            let detail = "`code` and `files` belong to a JSON body; this one has a `tar` part";
            return Err(ApiError::new(Code::InvalidValue, detail));
        }
        self.drop_empty();
        let language = language(self.language, self.python_version)?;
        let config = self.config.unwrap_or_default();
        let mut notices = Vec::new();
        if config.network_disabled == Some(false) {
            notices.push("the network stays off: this server runs every program without one".to_owned());
        }
        Ok(Submission {
            project,
            language,
            entrypoint: self.entrypoint,
            args: self.script_args,
            env: self.env_vars.unwrap_or_default().0,
            stdin: Stdin::Bytes(self.stdin.unwrap_or_default().into_bytes().into()),
            limits: RequestedLimits::from(&config),
            eval_last_expr: self.eval_last_expr.unwrap_or(false),
            script: Script {
                names: self.script.unwrap_or(false),
                call: self.call,
                capture_plots: self.capture_plots.unwrap_or(false),
                parameters: self.parameters,
                input_data: self.input_data,
            },
            artifacts: self.artifacts,
            labels: self.labels.unwrap_or_default(),
            lint: if self.lint == Some(true) { LintMode::Advise } else { LintMode::Off },
            notices,
        })
    }
}

/// `python_version` is another way to say `language: python@...`.
fn language(language: Option<String>, python: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(version) = python else { return Ok(language) };
    match language.as_deref() {
        None | Some("python" | "python3" | "py") => Ok(Some(format!("python@{version}"))),
        Some(_) => Err(ApiError::new(
            Code::InvalidValue,
            "give either `language` or `python_version`; this request has both, and they may differ",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_version_is_a_language() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(language(None, some("3.11")), Ok(some("python@3.11")));
        assert_eq!(language(some("python"), some("3.11")), Ok(some("python@3.11")));
        assert_eq!(language(some("node"), None), Ok(some("node")));
        assert_eq!(language(some("node"), some("3.11")).unwrap_err().code, Code::InvalidValue);
    }
}
