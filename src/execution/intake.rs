//! The door: what a caller asks for, from HTTP or the command line, checked once and turned into a spec.

use std::collections::BTreeMap;

use crate::archive::Project;
use crate::execution::id::Tenant;
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::limits::{LimitPolicy, RequestedLimits};
use crate::runtime::Catalogue;

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

/// Checks a submission.
///
/// # Errors
/// The first rule it breaks.
pub fn accept(
    _catalogue: &Catalogue,
    _policy: &LimitPolicy,
    _tenant: &Tenant,
    _submission: Submission,
) -> Result<ExecutionSpec, IntakeError> {
    Err(IntakeError { code: "stub", message: String::new() })
}
