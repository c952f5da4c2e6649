//! The door: what a caller asks for, from HTTP or the command line, checked once and turned into a spec.

mod caps;
mod cargo_lock;
mod cargo_manifest;
mod dependencies;
mod lint;
mod npm_lock;
mod own_image;
mod project_file;
mod r_description;
mod requirements;
mod script;
mod shebang;
mod sources;
mod start;
mod top;
mod windows;

use std::collections::BTreeMap;
use std::io;

pub use dependencies::{InstallPolicy, Installs, RequestedDependencies, add_dependencies};
pub use own_image::{image_rule, use_image};

use crate::archive::{Contents, Project};
use crate::execution::id::Tenant;
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::limits::{LimitError, LimitPolicy, RequestedLimits};
use crate::runtime::{Catalogue, Invocation, RuntimeError};

pub use lint::LintMode;
use project_file::ProjectFile;
pub use script::Script;

/// What a caller asks for. Nothing in it is checked yet but the project.
#[derive(Debug)]
pub struct Submission {
    /// The files.
    pub project: Project,
    /// Name, alias, or `name@version`; found from the entrypoint or the project when absent.
    pub language: Option<String>,
    /// File to run; found from the project when absent.
    pub entrypoint: Option<String>,
    /// Arguments of the program; those that the project names, or none, when absent.
    pub args: Option<Vec<String>>,
    /// The caller's environment variables, in order.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Stdin,
    /// Limits that differ from the defaults.
    pub limits: RequestedLimits,
    /// The value of the last expression is wanted.
    pub eval_last_expr: bool,
    /// Data for the program, and what it is to do beside running.
    pub script: Script,
    /// Globs of the files to return.
    pub artifacts: Option<Vec<String>>,
    /// Kept with the record.
    pub labels: BTreeMap<String, String>,
    /// What is made of findings in the sources.
    pub lint: LintMode,
    /// Sentences for the caller that are known already.
    pub notices: Vec<String>,
}

impl Submission {
    /// Whether [`accept`] has to read files of the project or to write one, and so blocks on the disk.
    #[must_use]
    pub fn is_read(&self, catalogue: &Catalogue) -> bool {
        // Every project is looked into; one in memory takes no time.
        let lowered = self.project.only_folder().is_some();
        let telling = lowered || !self.telling_files(catalogue).is_empty();
        let sources = sources::may_be_read(catalogue, self.project.entries());
        telling
            || sources
            || self.lint != LintMode::Off
            || self.script.is_asked()
            || !self.project.is_in_memory()
    }

    /// Files of the project whose content says something of how it is run.
    fn telling_files<'a>(&self, catalogue: &'a Catalogue) -> Vec<&'a str> {
        let mut files = catalogue.telling_files();
        if self.entrypoint.is_some() {
            files.clear();
        }
        files.insert(project_file::FILE);
        let is_there = |name: &&str| self.project.entries().iter().any(|entry| entry.path == *name);
        files.into_iter().filter(is_there).collect()
    }
}

/// Why a submission was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The caller's doing.
    #[error(transparent)]
    Refused(#[from] IntakeError),
    /// The project can't be read again: our own disk.
    #[error("the project can't be read: {0}")]
    Storage(#[from] io::Error),
}

impl From<RuntimeError> for AcceptError {
    fn from(error: RuntimeError) -> Self {
        IntakeError::from(error).into()
    }
}

/// Why a submission was refused: the caller's doing, always a 4xx.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IntakeError {
    /// Stable word, such as `no_entrypoint`, `unknown_language`, `limit_too_high`.
    pub code: &'static str,
    /// Names the field and what would be right.
    pub message: String,
}

impl IntakeError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<RuntimeError> for IntakeError {
    fn from(error: RuntimeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<LimitError> for IntakeError {
    fn from(error: LimitError) -> Self {
        let code = match error {
            LimitError::TooHigh { .. } => "limit_too_high",
            LimitError::TooLow { .. } => "limit_too_low",
        };
        Self::new(code, error.to_string())
    }
}

/// Checks a submission. Blocks on the disk when [`Submission::is_read`].
///
/// # Errors
/// The first rule it breaks, or a project that can't be read.
pub fn accept(
    catalogue: &Catalogue,
    policy: &LimitPolicy,
    tenant: &Tenant,
    mut submission: Submission,
) -> Result<ExecutionSpec, AcceptError> {
    caps::args(submission.args.as_deref().unwrap_or_default())?;
    caps::env(&submission.env)?;
    caps::labels(&submission.labels)?;
    caps::artifacts(submission.artifacts.as_deref())?;
    policy.resolve(&submission.limits).map_err(IntakeError::from)?;
    top::lower(catalogue, &mut submission)?;
    let contents = match submission.telling_files(catalogue).as_slice() {
        [] => Contents::new(),
        files => submission.project.contents(files, project_file::MAX_BYTES)?,
    };
    let from_file = ProjectFile::read(&submission.project, &contents)?.fill(&mut submission)?;
    check(catalogue, policy, tenant, submission, &contents).map_err(|error| match error {
        AcceptError::Refused(error) => from_file.claim(error).into(),
        storage @ AcceptError::Storage(_) => storage,
    })
}

/// Checks a submission into which went what its project says.
fn check(
    catalogue: &Catalogue,
    policy: &LimitPolicy,
    tenant: &Tenant,
    submission: Submission,
    contents: &Contents,
) -> Result<ExecutionSpec, AcceptError> {
    let limits = policy.resolve(&submission.limits).map_err(IntakeError::from)?;
    let entries = submission.project.entries();
    let args = submission.args.unwrap_or_default();
    caps::project(entries, &limits)?;
    caps::args(&args)?;
    caps::env(&submission.env)?;
    caps::artifacts(submission.artifacts.as_deref())?;
    let (language, entrypoint) = (submission.language.as_deref(), submission.entrypoint.as_deref());
    let start = match start::find(catalogue, language, entrypoint, entries, contents) {
        Ok(start) => start,
        Err(error) => return Err(shebang::explain(catalogue, &submission.project, entrypoint, error)?.into()),
    };
    let (script, eval) = (&submission.script, submission.eval_last_expr);
    script.check(policy, eval)?;
    let apart = sources::apart(&submission.project, &start)?;
    let mut command = catalogue.command(
        &start.runtime,
        &Invocation {
            entrypoint: &start.entrypoint,
            args: &args,
            env: &submission.env,
            entries,
            apart: &apart,
            wants: script.wants(eval),
        },
    )?;
    let mut notices = submission.notices;
    notices.extend(lint::notices(&submission.project, &start, submission.lint)?);
    let beside = start.runtime.hinting_files(submission.project.entries());
    let mut project = submission.project;
    notices.extend(project.take_notices());
    notices.extend(windows::look(&mut project, &start)?);
    script.hand_over(&mut project, &mut command, &start.entrypoint, eval, limits.disk_bytes)?;
    caps::command(&command)?;
    Ok(ExecutionSpec {
        tenant: tenant.clone(),
        share: None,
        runtime: start.runtime,
        project,
        command,
        stdin: submission.stdin,
        limits,
        artifacts: submission.script.artifacts(submission.artifacts),
        dependencies: None,
        image: None,
        labels: submission.labels,
        notices,
        beside,
        memory: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;

    fn submission(files: &[(&str, &[u8])]) -> Submission {
        let spool = tempfile::tempdir().unwrap();
        let mut writer = ProjectWriter::new(spool.path(), Config::default().archive_limits()).unwrap();
        for (path, content) in files {
            writer.file(path, content.len() as u64, false).unwrap();
            writer.data(content).unwrap();
        }
        Submission {
            project: writer.finish().unwrap(),
            language: None,
            entrypoint: None,
            args: None,
            env: Vec::new(),
            stdin: Stdin::empty(),
            limits: RequestedLimits::default(),
            eval_last_expr: false,
            script: Script::default(),
            artifacts: None,
            labels: BTreeMap::new(),
            lint: LintMode::Off,
            notices: Vec::new(),
        }
    }

    fn accepted(submission: Submission) -> Result<ExecutionSpec, IntakeError> {
        let catalogue = Catalogue::load(None).unwrap();
        accept(&catalogue, &Config::default().limit_policy(), &Tenant::local(), submission).map_err(|error| {
            match error {
                AcceptError::Refused(error) => error,
                AcceptError::Storage(error) => panic!("{error}"),
            }
        })
    }

    #[test]
    fn a_submission_becomes_a_spec_with_its_command() {
        let mut given = submission(&[("main.c", b"int main(void) { return 0; }"), ("lib/a.c", b"")]);
        given.args = Some(vec!["x y".into()]);
        given.env = vec![("A".into(), "1".into())];
        let spec = accepted(given).unwrap();
        assert_eq!(spec.runtime.name, "c");
        let compile = spec.command.compile.unwrap();
        let sources: Vec<_> = compile.iter().filter(|word| word.ends_with(".c")).collect();
        assert_eq!(sources, ["lib/a.c", "main.c"]);
        assert_eq!(spec.command.run, ["/work/.execbox/main", "x y"]);
        assert!(spec.command.env.contains(&("A".into(), "1".into())));
    }

    /// Breaks one rule of a submission that is right otherwise.
    type Fault = fn(&mut Submission);

    #[test]
    fn each_field_is_checked() {
        let faults: [(Fault, &str); 12] = [
            (|given| given.language = Some("cobol".into()), "unknown_language"),
            (|given| given.entrypoint = Some("gone.sh".into()), "no_entrypoint"),
            (|given| given.args = Some(vec!["\0".into()]), "bad_args"),
            (|given| given.env = vec![("1".into(), "x".into())], "bad_env"),
            (|given| drop(given.labels.insert(String::new(), "x".into())), "bad_labels"),
            (|given| given.artifacts = Some(vec!["../x".into()]), "bad_artifacts"),
            (|given| given.limits.pids = Some(1e9), "limit_too_high"),
            (|given| given.eval_last_expr = true, "eval_not_supported"),
            (|given| given.script.call = Some("main".into()), "call_not_supported"),
            (|given| given.script.call = Some("1".into()), "bad_call"),
            (|given| given.script.capture_plots = true, "plots_not_supported"),
            (|given| given.language = Some("lua".into()), "no_entrypoint"),
        ];
        for (fault, code) in faults {
            let mut given = submission(&[("main.sh", b"true")]);
            fault(&mut given);
            assert_eq!(accepted(given).unwrap_err().code, code);
        }
        assert!(accepted(submission(&[("main.sh", b"true")])).is_ok());
    }

    #[test]
    fn a_limit_out_of_range_keeps_its_own_words() {
        let policy = Config::default().limit_policy();
        for (memory_mb, code) in [(1e9, "limit_too_high"), (0.0, "limit_too_low")] {
            let asked = RequestedLimits { memory_mb: Some(memory_mb), ..Default::default() };
            let error = IntakeError::from(policy.resolve(&asked).unwrap_err());
            assert_eq!(error.code, code);
            assert!(error.message.contains("config.memory_mb"), "{error}");
        }
    }
}
