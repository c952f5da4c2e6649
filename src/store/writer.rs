//! The one thread that writes to the database: changes that come while a commit is under way share the next one, so
//! that many callers pay for one wait for the disk.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rusqlite::{Connection, Savepoint, TransactionBehavior};
use tokio::sync::oneshot;
use tracing::error;

use crate::failpoint;
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

/// Takes changes from any thread. The thread behind it ends with it.
#[derive(Debug)]
pub(super) struct Writer {
    changes: Sender<(Durability, Box<dyn Change>)>,
    database: Database,
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
    pub(super) fn start(database: Database) -> Result<Self, DatabaseError> {
        let connection = database.connect()?;
        let (changes, coming) = channel();
        let own = database.clone();
        thread::Builder::new()
            .name("store".into())
            .spawn(move || write(connection, &coming, &own))
            .map_err(|error| database.unusable(&error))?;
        Ok(Self { changes, database })
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
        self.changes.send((durability, pending)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn write(mut connection: Connection, coming: &Receiver<(Durability, Box<dyn Change>)>, database: &Database) {
    while let Ok(first) = coming.recv() {
        let mut batch = vec![first];
        batch.extend(coming.try_iter().take(BATCH - 1));
        let durable = batch.iter().any(|(durability, _)| *durability == Durability::Power);
        let committed = commit(&mut connection, durable, &mut batch).map_err(|error| database.error(&error));
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
