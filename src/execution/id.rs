//! Names of executions and of their owners.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// Names one execution: `exe_` and a random UUID (122 random bits, so an id can't be guessed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionId(Uuid);

const PREFIX: &str = "exe_";

impl ExecutionId {
    /// A fresh one.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl From<Uuid> for ExecutionId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl From<ExecutionId> for Uuid {
    fn from(id: ExecutionId) -> Self {
        id.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.as_hyphenated())
    }
}

/// A text that is no execution id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an execution id is `exe_` and a UUID in lower case, like exe_550e8400-e29b-41d4-a716-446655440000")]
pub struct BadExecutionId;

impl FromStr for ExecutionId {
    type Err = BadExecutionId;

    /// Takes the exact spelling that [`fmt::Display`] gives and no other, so that one execution has one name.
    fn from_str(text: &str) -> Result<Self, BadExecutionId> {
        let uuid = text.strip_prefix(PREFIX).ok_or(BadExecutionId)?;
        let id = Self(Uuid::try_parse(uuid).map_err(|_| BadExecutionId)?);
        if id.to_string() == text { Ok(id) } else { Err(BadExecutionId) }
    }
}

/// The owner of executions, behind an API key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The one tenant of a server without keys.
    #[must_use]
    pub fn local() -> Self {
        Self::named("local")
    }

    /// The tenant of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

/// Characters of a tenant's name.
const MAX_TENANT: usize = 63;

/// A text that can't name a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant is 1 to 63 lower-case letters, digits, `.`, `_` or `-`, and begins with a letter or digit")]
pub struct BadTenant;

impl FromStr for Tenant {
    type Err = BadTenant;

    fn from_str(name: &str) -> Result<Self, BadTenant> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins = name.bytes().next().is_some_and(alphanumeric);
        let fine = |byte: u8| alphanumeric(byte) || b"._-".contains(&byte);
        if begins && name.len() <= MAX_TENANT && name.bytes().all(fine) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(BadTenant)
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_own_text() {
        let id = ExecutionId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn tenants_have_plain_names() {
        assert_eq!("local".parse(), Ok(Tenant::local()));
        assert!("team-1.a_b".parse::<Tenant>().is_ok());
        for bad in ["", "-a", ".", "A", "a b", "a\n", "a/b", "\u{e4}", &"a".repeat(64)] {
            assert_eq!(bad.parse::<Tenant>(), Err(BadTenant), "{bad:?}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = "exe_550e8400-e29b-41d4-a716-446655440000";
        assert!(good.parse::<ExecutionId>().is_ok());
        for bad in [
            "",
            "exe_",
            "550e8400-e29b-41d4-a716-446655440000",
            "exe_550E8400-E29B-41D4-A716-446655440000",
            "exe_550e8400e29b41d4a716446655440000",
            "exe_{550e8400-e29b-41d4-a716-446655440000}",
            "exe_550e8400-e29b-41d4-a716-44665544000",
            "exe_../../etc/passwd",
            "exe_550e8400-e29b-41d4-a716-446655440000\0",
        ] {
            assert_eq!(bad.parse::<ExecutionId>(), Err(BadExecutionId), "{bad:?}");
        }
    }
}
