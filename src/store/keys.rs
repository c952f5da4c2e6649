//! API keys: made once, kept hashed, looked up by their public part.

mod record;
mod token;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use subtle::ConstantTimeEq as _;

use crate::store::{Database, DatabaseError};

pub use record::{ApiKey, KeySpec, LintRule, Scope, UnknownLintRule, UnknownScope};
pub use token::PREFIX;
use token::{DIGEST, Token};

const COLUMNS: &str = "id, tenant, name, scopes, created_at_ms, expires_at_ms, revoked_at_ms, rate_per_minute, concurrency, \
                       lint, max_timeout_ms, max_memory_bytes, max_disk_bytes, max_cpu_millis, secret_sha256";

/// The table of keys. Works beside other processes that use the same file: what one writes, all see at once.
#[derive(Debug)]
pub struct Keys {
    database: Database,
    connection: Mutex<Connection>,
}

impl Keys {
    /// Opens the table in the database of this data folder, which must exist. Takes no lock on the folder.
    ///
    /// # Errors
    /// The database is damaged, newer than this binary, or can't be used.
    pub fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let database = Database::open(folder)?;
        let connection = Mutex::new(database.connect()?);
        Ok(Self { database, connection })
    }

    /// Makes a key. What is given back is the only copy of the secret.
    ///
    /// # Errors
    /// The system has no randomness, or the database can't be written.
    pub fn create(&self, spec: &KeySpec) -> Result<(String, String), DatabaseError> {
        let unusable = |error: getrandom::Error| self.database.unusable(&error);
        let token = Token::random().map_err(unusable)?;
        let insert = "INSERT INTO keys (id, tenant, name, secret_sha256, scopes, created_at_ms, expires_at_ms, \
                      rate_per_minute, concurrency, max_timeout_ms, max_memory_bytes, max_cpu_millis, lint, \
                      max_disk_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        let row = params![
            token.id,
            spec.tenant,
            spec.name,
            token.digest(),
            Scope::join(&spec.scopes),
            Timestamp::now().as_millisecond(),
            spec.expires_at.map(Timestamp::as_millisecond),
            spec.rate_per_minute,
            spec.concurrency,
            spec.ceilings.timeout_ms.map(signed),
            spec.ceilings.memory_bytes.map(signed),
            spec.ceilings.cpu_millis.map(signed),
            spec.lint.map(LintRule::as_str),
            spec.ceilings.disk_bytes.map(signed),
        ];
        self.connection().execute(insert, row).map_err(|error| self.database.error(&error))?;
        Ok((token.to_text(), token.id))
    }

    /// All keys in the order in which they were made, revoked ones too.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn list(&self) -> Result<Vec<ApiKey>, DatabaseError> {
        let read = |connection: &Connection| -> rusqlite::Result<Vec<ApiKey>> {
            let select = format!("SELECT {COLUMNS} FROM keys ORDER BY created_at_ms, id");
            let mut statement = connection.prepare(&select)?;
            statement.query_map([], ApiKey::read)?.collect()
        };
        read(&self.connection()).map_err(|error| self.database.error(&error))
    }

    /// Ends a key for good. False when there is no such key; one that was revoked before stays so.
    ///
    /// # Errors
    /// The database can't be written.
    pub fn revoke(&self, id: &str) -> Result<bool, DatabaseError> {
        let update = "UPDATE keys SET revoked_at_ms = coalesce(revoked_at_ms, ?2) WHERE id = ?1";
        let now = Timestamp::now().as_millisecond();
        let changed = self.connection().execute(update, params![id, now]);
        changed.map(|rows| rows > 0).map_err(|error| self.database.error(&error))
    }

    /// Whether any key was ever made. One that is over counts too: the last key's end must not open a server.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn any(&self) -> Result<bool, DatabaseError> {
        let found = self.connection().query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0));
        found.map_err(|error| self.database.error(&error))
    }

    /// Tenants that have a key which is valid now.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn tenants(&self) -> Result<usize, DatabaseError> {
        let select = "SELECT count(DISTINCT tenant) FROM keys \
                      WHERE revoked_at_ms IS NULL AND coalesce(expires_at_ms > ?1, 1)";
        let now = Timestamp::now().as_millisecond();
        let found = self.connection().query_row(select, [now], |row| row.get::<_, i64>(0));
        found.map(|count| usize::try_from(count).unwrap_or(0)).map_err(|error| self.database.error(&error))
    }

    /// The key that this text is, if it is valid now. The secret is compared in constant time, also with nothing when
    /// the id is unknown.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn authenticate(&self, text: &str) -> Result<Option<ApiKey>, DatabaseError> {
        let Some(token) = Token::parse(text) else { return Ok(None) };
        let select = format!("SELECT {COLUMNS} FROM keys WHERE id = ?1");
        let found = self.connection().query_row(&select, [&token.id], |row| {
            Ok((ApiKey::read(row)?, row.get::<_, [u8; DIGEST]>("secret_sha256")?))
        });
        let found = found.optional().map_err(|error| self.database.error(&error))?;
        let expected = found.as_ref().map_or([0; DIGEST], |(_, digest)| *digest);
        let same: bool = expected.ct_eq(&token.digest()).into();
        Ok(found.map(|(key, _)| key).filter(|key| same && key.is_valid(Timestamp::now())))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SQLite's integers are signed; ceilings are far below.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;

    fn keys() -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        (folder, keys)
    }

    fn spec(tenant: &str) -> KeySpec {
        KeySpec { tenant: tenant.into(), scopes: vec![Scope::Run, Scope::Read], ..KeySpec::default() }
    }

    #[test]
    fn a_key_is_found_by_its_text_and_by_no_other() {
        let (_folder, keys) = keys();
        assert!(!keys.any().unwrap());
        let (text, id) = keys.create(&spec("a")).unwrap();
        let (other, _) = keys.create(&spec("b")).unwrap();
        assert!(keys.any().unwrap());
        let found = keys.authenticate(&text).unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.tenant.as_str()), (id.as_str(), "a"));
        assert!(found.may(Scope::Read) && !found.may(Scope::Admin));
        let mixed = format!("{}{}", &text[..text.len() - 43], &other[other.len() - 43..]);
        let mut bent = text.clone();
        bent.replace_range(
            text.len() - 10..text.len() - 9,
            if text.as_bytes()[text.len() - 10] == b'A' { "B" } else { "A" },
        );
        for bad in [
            "",
            "exb_",
            &id,
            &mixed,
            &bent,
            &text[..text.len() - 1],
            &format!("{text}A"),
            &text.to_uppercase(),
        ] {
            assert!(keys.authenticate(bad).unwrap().is_none(), "{bad}");
        }
    }

    #[test]
    fn revoked_and_expired_keys_are_none_and_a_second_process_sees_it_at_once() {
        let (folder, keys) = keys();
        let server = Keys::open(folder.path()).unwrap();
        let (text, id) = keys.create(&spec("a")).unwrap();
        assert!(server.authenticate(&text).unwrap().is_some());
        assert!(keys.revoke(&id).unwrap() && keys.revoke(&id).unwrap() && !keys.revoke("nobody").unwrap());
        assert!(server.authenticate(&text).unwrap().is_none());
        let past = Timestamp::now() - 1.hour();
        let (old, _) = keys.create(&KeySpec { expires_at: Some(past), ..spec("a") }).unwrap();
        assert!(server.authenticate(&old).unwrap().is_none());
        assert!(server.any().unwrap());
        assert_eq!(server.tenants().unwrap(), 0);
        for tenant in ["a", "b", "b"] {
            keys.create(&spec(tenant)).unwrap();
        }
        let later = Timestamp::now() + 1.hour();
        keys.create(&KeySpec { expires_at: Some(later), ..spec("c") }).unwrap();
        assert_eq!(server.tenants().unwrap(), 3);
    }

    #[test]
    fn everything_that_was_given_comes_back_and_the_secret_is_nowhere() {
        let (folder, keys) = keys();
        let mut given = spec("a");
        given.name = "build machine".into();
        given.rate_per_minute = Some(60);
        given.lint = Some(LintRule::Block);
        given.ceilings.cpu_millis = Some(500);
        given.ceilings.memory_bytes = Some(64 << 20);
        given.ceilings.disk_bytes = Some(32 << 20);
        given.ceilings.timeout_ms = Some(1_500);
        given.expires_at = Some(Timestamp::now() + 24.hours());
        let (text, _) = keys.create(&given).unwrap();
        let listed = keys.list().unwrap();
        let [key] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!(
            (key.name.as_str(), key.rate_per_minute, key.lint, key.ceilings),
            ("build machine", Some(60), Some(LintRule::Block), given.ceilings)
        );
        assert_eq!(
            key.expires_at.map(Timestamp::as_millisecond),
            given.expires_at.map(Timestamp::as_millisecond)
        );
        let secret = &text[text.len() - 43..];
        assert!(!format!("{keys:?} {listed:?}").contains(secret));
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}
