//! The one thread that writes to the database: changes that come while a commit is under way share the next one, so
//! that many callers pay for one wait for the disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rusqlite::{Connection, Savepoint, TransactionBehavior};
use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::failpoint;
use crate::store::reserve::Reserve;
use crate::store::{Database, DatabaseError};

/// Changes that share one commit at most; bounds how long the first of them waits for the others.
const BATCH: usize = 256;

/// What a commit has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The end of this process, however sudden.
    Process,
    /// The loss of power: the commit waits for the disk.
    Power,
}

/// Gives pages that removals have left back to the disk: 32 MiB of them at most, so that no other change waits long.
const SHRINK: &str = "PRAGMA incremental_vacuum(8192); PRAGMA wal_checkpoint(TRUNCATE);";

/// Takes changes from any thread. The thread behind it ends with it.
#[derive(Debug)]
pub(super) struct Writer {
    changes: Sender<Asked>,
    database: Database,
    reserve: Arc<Reserve>,
}

/// A request to the thread.
enum Asked {
    Change(Durability, Box<dyn Change>),
    /// The disk is low, and something was removed.
    Shrink,
}

/// A change on its way to the disk.
trait Change: Send {
    /// Its name.
    fn what(&self) -> &'static str;
    /// Makes the change inside the transaction. True when it may be committed.
    fn apply(&mut self, connection: &Connection) -> bool;
    /// Tells the caller how it went, once that is certain.
    fn settle(self: Box<Self>, committed: Result<(), &DatabaseError>, database: &Database);
}

struct Pending<T, F> {
    what: &'static str,
    change: Option<F>,
    outcome: Option<rusqlite::Result<T>>,
    reply: oneshot::Sender<Result<T, DatabaseError>>,
}

impl<T, F> Change for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn what(&self) -> &'static str {
        self.what
    }

    fn apply(&mut self, connection: &Connection) -> bool {
        self.outcome = self.change.take().map(|change| change(connection));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn settle(self: Box<Self>, committed: Result<(), &DatabaseError>, database: &Database) {
        let outcome = match (self.outcome, committed) {
            (Some(Err(error)), _) => Err(database.error(&error)),
            (_, Err(error)) => Err(error.clone()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(database.unusable(&"a change was passed over")),
        };
        // Whoever asked may have gone; what is done stays done.
        drop(self.reply.send(outcome));
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(database: Database, reserve: Arc<Reserve>) -> Result<Self, DatabaseError> {
        let connection = database.connect()?;
        let (changes, coming) = channel();
        let own = database.clone();
        thread::Builder::new()
            .name("store".into())
            .spawn(move || write(connection, &coming, &own))
            .map_err(|error| database.unusable(&error))?;
        Ok(Self { changes, database, reserve })
    }

    /// Makes a change, alone or with others in one commit, all of it or nothing. It is committed when this returns; a
    /// caller that gives up waiting does not stop it. `what` names it for crash tests.
    pub(super) async fn write<T, F>(
        &self,
        what: &'static str,
        durability: Durability,
        change: F,
    ) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        failpoint::pass_step("store", what, "asked");
        let pending = Box::new(Pending { what, change: Some(change), outcome: None, reply });
        let ended = || self.database.unusable(&"its writer has ended");
        self.changes.send(Asked::Change(durability, pending)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Makes a change that removes something, also on a full disk: the reserve is given up for it. The change survives the
    /// end of this process.
    pub(super) async fn free<T, F>(&self, what: &'static str, change: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Clone + Send + 'static,
    {
        let first = self.write(what, Durability::Process, change.clone()).await;
        if !matches!(first, Err(DatabaseError::Full { .. })) {
            return first;
        }
        if let Err(error) = self.reserve.release() {
            warn!(%error, "the reserve of the data folder could not be given up");
        }
        let second = self.write(what, Durability::Process, change).await;
        // The thread ends with this value only.
        drop(self.changes.send(Asked::Shrink));
        second
    }
}

fn write(mut connection: Connection, coming: &Receiver<Asked>, database: &Database) {
    while let Ok(first) = coming.recv() {
        let mut asked = vec![first];
        asked.extend(coming.try_iter().take(BATCH - 1));
        let shrinks = asked.iter().any(|asked| matches!(asked, Asked::Shrink));
        let change = |asked| match asked {
            Asked::Change(durability, change) => Some((durability, change)),
            Asked::Shrink => None,
        };
        write_batch(&mut connection, asked.into_iter().filter_map(change).collect(), database);
        if shrinks && let Err(error) = connection.execute_batch(SHRINK) {
            warn!(%error, "the database could not be made smaller");
        }
    }
}

type Batch = Vec<(Durability, Box<dyn Change>)>;

fn write_batch(connection: &mut Connection, mut batch: Batch, database: &Database) {
    if !batch.is_empty() {
        let durable = batch.iter().any(|(durability, _)| *durability == Durability::Power);
        let committed = commit(connection, durable, &mut batch).map_err(|error| database.error(&error));
        if let Err(error) = &committed {
            error!(%error, changes = batch.len(), "a commit failed; nothing of it is kept");
        }
        for (_, change) in batch {
            failpoint::pass_step("store", change.what(), "committed");
            change.settle(committed.as_ref().copied(), database);
        }
    }
}

fn commit(
    connection: &mut Connection,
    durable: bool,
    batch: &mut [(Durability, Box<dyn Change>)],
) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (_, change) in batch {
        // One that fails takes back its own part only.
        let mut part: Savepoint<'_> = transaction.savepoint()?;
        let applied = change.apply(&part);
        failpoint::pass_step("store", change.what(), "made");
        if applied {
            part.commit()?;
        } else {
            part.rollback()?;
        }
    }
    transaction.commit()
}
