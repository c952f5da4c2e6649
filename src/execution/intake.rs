//! The door: what a caller asks for, from HTTP or the command line, checked once and turned into a spec.

mod caps;
mod start;

use std::collections::BTreeMap;

use crate::archive::Project;
use crate::execution::id::Tenant;
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::limits::{LimitError, LimitPolicy, RequestedLimits};
use crate::runtime::{Catalogue, Invocation, RuntimeError};

/// What a caller asks for. Nothing in it is checked yet but the project.
#[derive(Debug)]
pub struct Submission {
    /// The files.
    pub project: Project,
    /// Name, alias, or `name@version`; found from the entrypoint or the project when absent.
    pub language: Option<String>,
    /// File to run; found from the project when absent.
    pub entrypoint: Option<String>,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// The caller's environment variables, in order.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Stdin,
    /// Limits that differ from the defaults.
    pub limits: RequestedLimits,
    /// The value of the last expression is wanted.
    pub eval_last_expr: bool,
    /// Globs of the files to return.
    pub artifacts: Option<Vec<String>>,
    /// Kept with the record.
    pub labels: BTreeMap<String, String>,
    /// Sentences for the caller that are known already.
    pub notices: Vec<String>,
}

/// Why a submission was refused: the caller's doing, always a 400.
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

/// Checks a submission.
///
/// # Errors
/// The first rule it breaks.
pub fn accept(
    catalogue: &Catalogue,
    policy: &LimitPolicy,
    tenant: &Tenant,
    submission: Submission,
) -> Result<ExecutionSpec, IntakeError> {
    let limits = policy.resolve(&submission.limits)?;
    let entries = submission.project.entries();
    caps::project(entries, &limits)?;
    caps::args(&submission.args)?;
    caps::env(&submission.env)?;
    caps::labels(&submission.labels)?;
    caps::artifacts(submission.artifacts.as_deref())?;
    let start =
        start::find(catalogue, submission.language.as_deref(), submission.entrypoint.as_deref(), entries)?;
    let command = start.runtime.command(&Invocation {
        entrypoint: &start.entrypoint,
        args: &submission.args,
        env: &submission.env,
        entries,
        eval: submission.eval_last_expr,
    })?;
    caps::command(&command)?;
    Ok(ExecutionSpec {
        tenant: tenant.clone(),
        share: None,
        runtime: start.runtime,
        project: submission.project,
        command,
        stdin: submission.stdin,
        limits,
        artifacts: submission.artifacts,
        labels: submission.labels,
        notices: submission.notices,
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
            args: Vec::new(),
            env: Vec::new(),
            stdin: Stdin::empty(),
            limits: RequestedLimits::default(),
            eval_last_expr: false,
            artifacts: None,
            labels: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    fn accepted(submission: Submission) -> Result<ExecutionSpec, IntakeError> {
        let catalogue = Catalogue::load(None).unwrap();
        accept(&catalogue, &Config::default().limit_policy(), &Tenant::local(), submission)
    }

    #[test]
    fn a_submission_becomes_a_spec_with_its_command() {
        let mut given = submission(&[("main.c", b"int main(void) { return 0; }"), ("lib/a.c", b"")]);
        given.args = vec!["x y".into()];
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
        let faults: [(Fault, &str); 8] = [
            (|given| given.language = Some("cobol".into()), "unknown_language"),
            (|given| given.entrypoint = Some("gone.sh".into()), "no_entrypoint"),
            (|given| given.args = vec!["\0".into()], "bad_args"),
            (|given| given.env = vec![("1".into(), "x".into())], "bad_env"),
            (|given| drop(given.labels.insert(String::new(), "x".into())), "bad_labels"),
            (|given| given.artifacts = Some(vec!["../x".into()]), "bad_artifacts"),
            (|given| given.limits.pids = Some(1e9), "limit_too_high"),
            (|given| given.eval_last_expr = true, "eval_not_supported"),
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
