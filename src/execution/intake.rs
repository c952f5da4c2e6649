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

    #[test]
    fn a_limit_out_of_range_keeps_its_own_words() {
        let policy = crate::config::Config::default().limit_policy();
        for (memory_mb, code) in [(1e9, "limit_too_high"), (0.0, "limit_too_low")] {
            let asked = RequestedLimits { memory_mb: Some(memory_mb), ..Default::default() };
            let error = IntakeError::from(policy.resolve(&asked).unwrap_err());
            assert_eq!(error.code, code);
            assert!(error.message.contains("config.memory_mb"), "{error}");
        }
    }
}
