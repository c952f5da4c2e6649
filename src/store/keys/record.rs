//! What is known of a key beside its secret.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::{Row, types::Type};

use crate::limits::KeyCeilings;

/// What a key is allowed. None contains another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Run, kill and purge executions.
    Run,
    /// Read results and artifacts.
    Read,
    /// Read the server's metrics.
    Admin,
}

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope; there are run, read and admin")]
pub struct UnknownScope(String);

impl Scope {
    /// The word on the command line and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    pub(super) fn join(scopes: &[Self]) -> String {
        scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(word: &str) -> Result<Self, UnknownScope> {
        let all = [Self::Run, Self::Read, Self::Admin];
        all.into_iter().find(|scope| scope.as_str() == word).ok_or_else(|| UnknownScope(word.to_owned()))
    }
}

/// What a key makes of findings in the sources of its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintRule {
    /// They are told with every result.
    Advise,
    /// A program with findings does not run.
    Block,
}

/// A word that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rule; there are advise and block")]
pub struct UnknownLintRule(String);

impl LintRule {
    /// The word on the command line and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advise => "advise",
            Self::Block => "block",
        }
    }
}

impl FromStr for LintRule {
    type Err = UnknownLintRule;

    fn from_str(word: &str) -> Result<Self, UnknownLintRule> {
        let all = [Self::Advise, Self::Block];
        all.into_iter().find(|rule| rule.as_str() == word).ok_or_else(|| UnknownLintRule(word.to_owned()))
    }
}

/// A key that is to be made.
#[derive(Debug, Clone, Default)]
pub struct KeySpec {
    /// Owner of what is run with it.
    pub tenant: String,
    /// For people.
    pub name: String,
    /// What it is allowed.
    pub scopes: Vec<Scope>,
    /// When it stops to work by itself.
    pub expires_at: Option<Timestamp>,
    /// Requests per minute.
    pub rate_per_minute: Option<u32>,
    /// Executions of it that run at once.
    pub concurrency: Option<u16>,
    /// What is made of findings in sources; the request decides when absent.
    pub lint: Option<LintRule>,
    /// Limits of executions that are narrower than the server's.
    pub ceilings: KeyCeilings,
}

/// A key that was made, without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its public part.
    pub id: String,
    /// Owner of what is run with it.
    pub tenant: String,
    /// For people.
    pub name: String,
    /// What it is allowed.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work by itself.
    pub expires_at: Option<Timestamp>,
    /// When somebody ended it.
    pub revoked_at: Option<Timestamp>,
    /// Requests per minute.
    pub rate_per_minute: Option<u32>,
    /// Executions of it that run at once.
    pub concurrency: Option<u16>,
    /// What is made of findings in sources; the request decides when absent.
    pub lint: Option<LintRule>,
    /// Limits of executions that are narrower than the server's.
    pub ceilings: KeyCeilings,
}

impl ApiKey {
    /// Neither revoked nor expired.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Has this scope.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let scopes: String = row.get("scopes")?;
        let scopes =
            scopes.split(',').filter(|word| !word.is_empty()).map(str::parse).collect::<Result<_, _>>();
        let ceiling = |column| {
            row.get::<_, Option<i64>>(column).map(|value| value.and_then(|value| u64::try_from(value).ok()))
        };
        let lint: Option<String> = row.get("lint")?;
        let lint = lint.map(|word| word.parse()).transpose();
        Ok(Self {
            id: row.get("id")?,
            tenant: row.get("tenant")?,
            name: row.get("name")?,
            scopes: scopes.map_err(|error: UnknownScope| bad("scopes", error))?,
            created_at: time(row, "created_at_ms")?.unwrap_or_default(),
            expires_at: time(row, "expires_at_ms")?,
            revoked_at: time(row, "revoked_at_ms")?,
            rate_per_minute: row.get("rate_per_minute")?,
            concurrency: row.get("concurrency")?,
            lint: lint.map_err(|error: UnknownLintRule| bad("lint", error))?,
            ceilings: KeyCeilings {
                timeout_ms: ceiling("max_timeout_ms")?,
                memory_bytes: ceiling("max_memory_bytes")?,
                disk_bytes: ceiling("max_disk_bytes")?,
                cpu_millis: ceiling("max_cpu_millis")?,
            },
        })
    }
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let millis: Option<i64> = row.get(column)?;
    millis.map(Timestamp::from_millisecond).transpose().map_err(|error| bad(column, error))
}

/// A value that we never wrote: a damaged row is an error, not a key with other rights.
fn bad(column: &str, error: impl fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("{column}: {error}").into())
}
