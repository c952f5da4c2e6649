//! From what a caller sent to what the execution layer checks: defaults, inline files.

use std::path::Path;
use std::sync::Arc;

use actix_web::web;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::archive::{ArchiveLimits, Contents, Entry, EntryKind, Project, ProjectWriter, is_junk};
use crate::execution::budget::Reserved;
use crate::execution::intake::{LintMode, RequestedDependencies, Script, Submission};
use crate::execution::spec::Stdin;
use crate::http::body::Body;
use crate::http::error::{ApiError, Code};
use crate::http::request::{Encoding, ExecRequest, Files, InlineFile, parse};
use crate::http::text::Caps;
use crate::limits::RequestedLimits;
use crate::runtime::Catalogue;

/// A request whose body is complete.
pub(super) struct Incoming {
    pub(super) request: ExecRequest,
    pub(super) project: Project,
    /// Memory for it until it is submitted.
    pub(super) held: Reserved,
}

/// Reads a JSON body. `code_cap`: bytes that its files may have together.
pub(super) async fn read_json(
    body: Body,
    catalogue: &Arc<Catalogue>,
    caps: &Caps,
    code_cap: Option<u64>,
) -> Result<Incoming, ApiError> {
    let text = body.collect(caps).await?;
    let held = caps.room(&text).await?;
    let (catalogue, spool, limits) = (Arc::clone(catalogue), caps.spool.clone(), caps.archive);
    let short = text.in_memory().is_some();
    let read = move |text: Vec<u8>| {
        let request = parse(&text)?;
        // Before the files are decoded: memory was reserved for one or the other.
        drop(text);
        let inline = Inline::new(request, &catalogue)?;
        inline.check(code_cap)?;
        Ok(inline)
    };
    let write = move |inline: Inline| inline.write(&spool, limits);
    let (request, project) = if short {
        let inline = text.read(read).await?;
        web::block(move || write(inline)).await.map_err(|error| ApiError::internal(&error))??
    } else {
        text.read(move |text| read(text).and_then(write)).await?
    };
    Ok(Incoming { request, project, held })
}

/// A JSON body with its files, from which a project can be written.
pub(super) struct Inline {
    request: ExecRequest,
    files: Vec<(String, Vec<u8>)>,
}

impl Inline {
    /// Takes the inline files out of a JSON body.
    pub(super) fn new(mut request: ExecRequest, catalogue: &Catalogue) -> Result<Self, ApiError> {
        request.drop_empty();
        let files = match (request.files.take(), request.code.take()) {
            (Some(Files(files)), _) if !files.is_empty() => {
                default_to_first(&mut request, &files, catalogue);
                files.into_iter().enumerate().map(decode).collect::<Result<_, _>>()?
            }
            (_, Some(code)) => vec![(name_code(&mut request, &code, catalogue), code.into_bytes())],
            _ => return Err(ApiError::new(Code::MissingCode, "give the program as `code` or `files`")),
        };
        Ok(Self { request, files })
    }

    /// The files are within their cap, where there is one.
    fn check(&self, code_cap: Option<u64>) -> Result<(), ApiError> {
        let bytes: usize = self.files.iter().map(|(_, content)| content.len()).sum();
        let Some(cap) = code_cap.filter(|cap| bytes as u64 > *cap) else { return Ok(()) };
        let detail = format!(
            "the code has {bytes} bytes; eval takes at most {cap}: send a tar archive to /api/v1/exec/sync"
        );
        Err(ApiError::new(Code::CodeTooLarge, detail))
    }

    /// Spools the files. Blocks on the disk.
    pub(super) fn write(
        self,
        spool: &Path,
        limits: ArchiveLimits,
    ) -> Result<(ExecRequest, Project), ApiError> {
        let Self { request, files } = self;
        let mut writer = ProjectWriter::new(spool, limits)?;
        for (name, content) in files {
            writer.file(&name, content.len() as u64, false)?;
            writer.data(&content)?;
        }
        Ok((request, writer.finish()?))
    }
}

/// python-executor runs the first file when there is no `main.py`; other languages have their own way to find it, and a
/// project may say it itself.
fn default_to_first(request: &mut ExecRequest, files: &[InlineFile], catalogue: &Catalogue) {
    let said = ["main.py", "__main__.py", "execbox.toml"];
    // A project may come with its folder around it.
    let names = || files.iter().map(|file| file.name.as_str()).filter(|name| !is_junk(name));
    let top = names().next().and_then(|first| first.split_inclusive('/').next());
    let top = top.filter(|top| names().all(|name| name.starts_with(top) && name.len() > top.len()));
    let inside = top.map_or(0, str::len);
    let undecided = request.entrypoint.is_none()
        && request.language.is_none()
        && names().all(|name| !said.contains(&&name[inside..]));
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

/// The file that `code` becomes: the entrypoint, else what the code names, else what the language usually starts with.
/// Python is the default.
fn name_code(request: &mut ExecRequest, code: &str, catalogue: &Catalogue) -> String {
    if let Some(name) = &request.entrypoint {
        return name.clone();
    }
    if request.language.is_none() && request.python_version.is_none() {
        request.language = Some("python".into());
    }
    let language = request.language.as_deref().unwrap_or("python");
    // A language that does not exist is refused later, with what it could have been.
    let runtime = catalogue.resolve(language).ok();
    let usual = runtime.and_then(|runtime| runtime.name_code(code));
    usual.unwrap_or_else(|| "main".to_owned())
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

    /// What the execution layer checks. Long standard input goes to a file in `spool`, which blocks on the disk.
    pub(super) fn into_submission(mut self, project: Project, spool: &Path) -> Result<Submission, ApiError> {
        if self.code.is_some() || self.files.is_some() {
            let detail = "`code` and `files` belong to a JSON body; this one has a `tar` part";
            return Err(ApiError::new(Code::InvalidValue, detail));
        }
        self.drop_empty();
        let language = language(self.language, self.python_version)?;
        let stdin = self.stdin.unwrap_or_default().into_bytes();
        let stdin = Stdin::new(stdin, spool).map_err(|error| ApiError::storage(&error))?;
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
            stdin,
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
