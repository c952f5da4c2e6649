//! Connections that read: a fixed number, opened at the start, for which reads wait in turn. So a rush of readers leaves
//! no files open and no page caches behind.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::{Database, DatabaseError};

/// Reads at once. Each takes far less than a millisecond, most of it without the disk.
const READERS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    database: Database,
    /// One for each permit.
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(database: Database) -> Result<Self, DatabaseError> {
        let idle = (0..READERS).map(|_| database.connect()).collect::<Result<_, _>>()?;
        Ok(Self { database, idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(READERS)) })
    }

    /// Reads, off the threads that serve.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let ended = |error: &dyn std::fmt::Display| self.database.unusable(error);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| ended(&error))?;
        let readers = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // One that a panic took is made again.
            let connection = idle.map_or_else(|| readers.database.connect(), Ok)?;
            let found = read(&connection).map_err(|error| readers.database.error(&error));
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            found
        });
        reading.await.map_err(|error| ended(&error))?
    }
}
