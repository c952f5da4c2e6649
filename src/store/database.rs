//! The database file: SQLite in WAL mode, with numbered migrations. A file that is damaged, or newer than this
//! binary, is refused; nothing ever starts empty over one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Name of the file in the data folder.
const FILE: &str = "execbox.db";
/// `exbx`, in the file's header: tells our files from others'.
const APPLICATION_ID: i32 = 0x6578_6278;
/// How every database begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The least that a database has: its smallest page.
const HEAD: usize = 512;
/// A file of at most this many bytes is checked thoroughly at each start, its indexes against its tables; that took 0.3 s
/// for one of this size. A larger one has its structure checked, and each record when it is read.
const SMALL: u64 = 64 << 20;
/// How long a writer waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// Every change of the schema, in order; a file's `user_version` says how many it has had. Only ever append: files in
/// the field have had the earlier ones.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/001_keys.sql"),
    include_str!("migrations/002_executions.sql"),
    include_str!("migrations/003_key_concurrency.sql"),
    include_str!("migrations/004_key_lint.sql"),
    include_str!("migrations/005_key_disk.sql"),
];

/// A database file that was found whole and is up to date.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
}

/// Why the database can't be used. Each message says what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// Not a database, cut short, or failing its own checks.
    #[error(
        "the database {path} is damaged ({detail}); stop execbox, restore the file from a backup, or move it away \
         together with its -wal and -shm files to begin with an empty one"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer execbox has changed it.
    #[error(
        "the database {path} has version {found}, and this execbox knows versions up to {known}; use the newer \
         execbox, or restore a backup that was made before the upgrade"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this binary knows.
        known: i64,
    },
    /// Its disk is full.
    #[error("the disk of the database {path} is full; free some of it, or purge executions")]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// It can't be read or written: permissions, a broken disk, or another process that does not let go.
    #[error(
        "the database {path} can't be used ({detail}); make its folder writable and its disk roomy, or give another with --data-dir"
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

impl Database {
    /// Opens the database of this data folder, which must exist; makes the file where there is none. Checks the file
    /// and brings it up to date. Safe beside other processes that use it.
    ///
    /// # Errors
    /// The file is damaged, newer than this binary, or can't be used.
    pub fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let database = Self { path: folder.join(FILE) };
        if !database.exists()? {
            database.create(folder)?;
        }
        database.check_and_migrate()?;
        Ok(database)
    }

    /// Whether this data folder has a database, whole or not.
    ///
    /// # Errors
    /// The folder may not be entered, or its disk is broken.
    pub fn is_in(folder: &Path) -> io::Result<bool> {
        folder.join(FILE).try_exists()
    }

    /// A connection of its own; WAL lets many read while one writes. A commit is on the disk when it returns.
    ///
    /// # Errors
    /// The file is gone or can't be used.
    pub fn connect(&self) -> Result<Connection, DatabaseError> {
        self.connect_to(&self.path)
    }

    /// What a failed statement on this database means.
    #[must_use]
    pub fn error(&self, error: &rusqlite::Error) -> DatabaseError {
        let (path, detail) = (self.path.clone(), error.to_string());
        let unlike_the_schema = matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        );
        if unlike_the_schema {
            return DatabaseError::Damaged { path, detail };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                DatabaseError::Damaged { path, detail }
            }
            Some(ErrorCode::DiskFull) => DatabaseError::Full { path },
            _ => DatabaseError::Unusable { path, detail },
        }
    }

    fn damaged(&self, detail: impl Into<String>) -> DatabaseError {
        DatabaseError::Damaged { path: self.path.clone(), detail: detail.into() }
    }

    pub(super) fn unusable(&self, error: &dyn std::fmt::Display) -> DatabaseError {
        DatabaseError::Unusable { path: self.path.clone(), detail: error.to_string() }
    }

    /// Whether the file is there, with our own header. SQLite takes a file of a few bytes for a new database and
    /// writes over it, so it must not see one: we never leave such a file, so it was cut short. So was a set of files
    /// whose log is there and whose main file is not.
    fn exists(&self) -> Result<bool, DatabaseError> {
        let mut head = [0; HEAD];
        match File::open(&self.path).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) if !head.starts_with(MAGIC) => Err(self.damaged("it is not a database")),
            Ok(()) if head[68..72] != APPLICATION_ID.to_be_bytes() => {
                Err(self.damaged("it is not a database of execbox"))
            }
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("it was cut short"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match std::fs::metadata(self.path.with_extension("db-wal")) {
                    Ok(log) if log.len() > 0 => Err(self.damaged("its -wal file is here without it")),
                    _ => Ok(false),
                }
            }
            Err(error) => Err(self.unusable(&error)),
        }
    }

    /// Makes the file whole under another name first, so that a crash leaves either none or a whole one. Readable by
    /// the owner only.
    fn create(&self, folder: &Path) -> Result<(), DatabaseError> {
        std::fs::metadata(folder).map_err(|error| self.unusable(&error))?;
        let unusable = |error: &dyn std::fmt::Display| self.unusable(error);
        let new = tempfile::Builder::new().prefix("new-").suffix(".db").tempfile_in(folder);
        let new = new.map_err(|error| unusable(&error))?;
        self.prepare(new.path())?;
        let mut connection = self.connect_to(new.path())?;
        self.migrate(&mut connection)?;
        connection.close().map_err(|(_, error)| self.error(&error))?;
        new.as_file().sync_all().map_err(|error| unusable(&error))?;
        match new.persist_noclobber(&self.path) {
            Ok(_) => {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unusable(&error))
            }
            // Another process was faster; its file is as good.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(unusable(&error.error)),
        }
    }

    /// Lets pages that removals leave go back to the disk, which only a file without tables can be told.
    fn prepare(&self, path: &Path) -> Result<(), DatabaseError> {
        let prepared = Connection::open(path).and_then(|connection| {
            connection.execute_batch(&format!(
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA application_id = {APPLICATION_ID};"
            ))
        });
        prepared.map_err(|error| self.error(&error))
    }

    fn connect_to(&self, path: &Path) -> Result<Connection, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let configured = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            )?;
            Ok(connection)
        });
        configured.map_err(|error| self.error(&error))
    }

    fn check_and_migrate(&self) -> Result<(), DatabaseError> {
        let mut connection = self.connect()?;
        let failed = |error: &rusqlite::Error| self.error(error);
        let found: i64 = pragma(&connection, "user_version").map_err(|error| failed(&error))?;
        let known = version(MIGRATIONS.len());
        if found > known {
            return Err(DatabaseError::Newer { path: self.path.clone(), found, known });
        }
        let bytes = std::fs::metadata(&self.path).map_or(u64::MAX, |file| file.len());
        let check = if bytes <= SMALL { "integrity_check(1)" } else { "quick_check(1)" };
        let verdict: String = pragma(&connection, check).map_err(|error| failed(&error))?;
        if verdict != "ok" {
            return Err(self.damaged(verdict.replace('\n', "; ")));
        }
        self.migrate(&mut connection)
    }

    /// Applies what is missing, all of it or nothing. Another process may be at it: the version is read inside the
    /// transaction.
    fn migrate(&self, connection: &mut Connection) -> Result<(), DatabaseError> {
        let apply = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let had: i64 = pragma(&transaction, "user_version")?;
            for (index, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(had).unwrap_or(0)) {
                transaction.execute_batch(sql)?;
                transaction.pragma_update(None, "user_version", version(index + 1))?;
            }
            transaction.commit()
        };
        apply(connection).map_err(|error| self.error(&error))
    }
}

fn version(migrations: usize) -> i64 {
    i64::try_from(migrations).unwrap_or(i64::MAX)
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

#[cfg(test)]
#[path = "database_tests.rs"]
mod tests;
