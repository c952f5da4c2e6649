//! One line of the doctor's.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// What was found, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    subject: &'static str,
    what: String,
    mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, what: impl fmt::Display) -> Self {
        Self { level: Level::Ok, subject, what: what.to_string(), mend: None }
    }

    pub(super) fn warn(subject: &'static str, what: impl fmt::Display, mend: impl fmt::Display) -> Self {
        Self { level: Level::Warn, subject, what: what.to_string(), mend: Some(mend.to_string()) }
    }

    pub(super) fn fail(subject: &'static str, what: impl fmt::Display, mend: impl fmt::Display) -> Self {
        Self { level: Level::Fail, ..Self::warn(subject, what, mend) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(f, "{level:<4}  {:<10} {}", self.subject, self.what)?;
        match &self.mend {
            Some(mend) => writeln!(f, "{:<17}-> {mend}", ""),
            None => Ok(()),
        }
    }
}
