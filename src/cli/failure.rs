//! Why a command failed, as its user sees it: one sentence and an exit code.

use std::fmt::Display;

/// Our own failure, as `docker run` has it: never taken for a program's exit code below it.
pub(super) const OUR_FAILURE: u8 = 125;
/// The command line, a setting or the input is wrong.
pub(super) const USAGE: u8 = 2;

/// Printed as `execbox: <message>`; the process ends with `code`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Failure {
    /// The user can mend it on the command line.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// We, or what we need, failed.
    pub(super) fn ours(message: impl Display) -> Self {
        Self { code: OUR_FAILURE, message: message.to_string() }
    }
}
