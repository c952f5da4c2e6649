//! What a user's program did, and why it ended: the one closed list, in the words of the wire.

use std::borrow::Cow;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// Why an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The program ended by itself, with whatever exit code.
    Exited,
    /// A signal ended the program that was not ours.
    Signaled,
    /// The compiler refused the project.
    CompileFailed,
    /// Dependencies could not be installed.
    InstallFailed,
    /// Its time was over.
    TimedOut,
    /// Its memory grew past its limit, or the kernel ended it because its container was full.
    OutOfMemory,
    /// It wrote far more than the output cap.
    OutputLimit,
    /// It filled its workspace, or wrote a file over the size limit, and failed.
    DiskLimit,
    /// Somebody asked for it to be killed.
    Killed,
    /// We failed to run it.
    Internal,
}

impl Reason {
    /// Its word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signaled => "signaled",
            Self::CompileFailed => "compile_failed",
            Self::InstallFailed => "install_failed",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::OutputLimit => "output_limit",
            Self::DiskLimit => "disk_limit",
            Self::Killed => "killed",
            Self::Internal => "internal",
        }
    }
}

/// What the program did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended.
    pub reason: Reason,
    /// Exit code as a shell gives it: the program's own; 128 + n after signal n; 137 where it was killed for a limit or on
    /// request; the compiler's or the installer's where that failed; [`NO_RUN`] where no program was started.
    #[serde(deserialize_with = "or_no_run")]
    pub exit_code: i32,
    /// A sentence that names the limit, the peak and the field that raises it; none for a plain exit.
    pub error: Option<String>,
}

/// Exit code of an execution that never had a program: image, sandbox or server failed, or it was killed while it waited.
pub const NO_RUN: i32 = 125;

/// Reads records of earlier servers, which had no code where no program had run.
fn or_no_run<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    Option::deserialize(deserializer).map(|code| code.unwrap_or(NO_RUN))
}

/// The name of a signal as `kill -l` prints it; the C library keeps 32 and 33 for itself.
pub(crate) fn signal_name(signal: i32) -> Cow<'static, str> {
    /// The C library's first real-time signal.
    const SIGRTMIN: i32 = 34;
    const NEXT: i32 = SIGRTMIN + 1;
    const SIGRTMAX: i32 = 64;
    match signal {
        32 | 33 => format!("SIG{signal}").into(),
        SIGRTMIN => "SIGRTMIN".into(),
        NEXT..=SIGRTMAX => format!("SIGRTMIN+{}", signal - SIGRTMIN).into(),
        _ => Signal::try_from(signal).map_or("unknown", Signal::as_str).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_code_reads_as_one_of_an_execution_without_a_program() {
        let read = |code: &str| {
            let json = format!(r#"{{"reason": "internal", "exit_code": {code}, "error": null}}"#);
            serde_json::from_str::<Outcome>(&json).unwrap().exit_code
        };
        assert_eq!((read("null"), read("3")), (NO_RUN, 3));
    }
}
