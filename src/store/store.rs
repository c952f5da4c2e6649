//! The durable store: records in the database, files beside it, and what keeps the two in step.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use uuid::Uuid;

use crate::failpoint;
use crate::store::blobs::{Blobs, ContentHash, Hold, Pin};
use crate::store::readers::Readers;
use crate::store::records::{self, Acceptance, Accepted, Ending, Kept, Unfinished};
use crate::store::reserve::Reserve;
use crate::store::retention::{self, Gone, RetentionPolicy};
use crate::store::writer::{Durability, Writer};
use crate::store::{DataDir, DataDirError, Database, DatabaseError};

/// Files that are looked at in one transaction when what nobody names is collected.
const COLLECTED: usize = 500;

/// Executions that outlive the server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data: DataDir,
    writer: Writer,
    readers: Arc<Readers>,
    blobs: Arc<Blobs>,
    /// Finished executions that are kept.
    kept: AtomicUsize,
    reserve: Arc<Reserve>,
}

/// Why the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The folder.
    #[error(transparent)]
    DataDir(Arc<DataDirError>),
    /// The records.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The files.
    #[error("a file of the data folder could not be read or written: {0}")]
    Files(Arc<std::io::Error>),
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Files(Arc::new(error))
    }
}

impl Store {
    /// Opens the data folder, made where it is missing, for this process alone.
    ///
    /// # Errors
    /// Another server has it, it can't be used, or its database is damaged or newer than this binary.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let data = DataDir::open(root).map_err(|error| StoreError::DataDir(Arc::new(error)))?;
        let database = Database::open(root)?;
        failpoint::pass("start.database");
        let connection = database.connect()?;
        let count = "SELECT count(*) FROM executions WHERE state = 2";
        let kept = connection.query_row(count, [], |row| row.get::<_, i64>(0));
        let kept = kept.map_err(|error| database.error(&error))?;
        let blobs = Blobs::open(data.blobs(), data.trash())?;
        failpoint::pass("start.blobs");
        let reserve = Arc::new(Reserve::new(root));
        Ok(Self(Arc::new(Inner {
            blobs: Arc::new(blobs),
            writer: Writer::start(database.clone(), Arc::clone(&reserve))?,
            readers: Arc::new(Readers::open(database)?),
            kept: AtomicUsize::new(usize::try_from(kept).unwrap_or(0)),
            reserve,
            data,
        })))
    }

    /// The folder.
    #[must_use]
    pub fn data(&self) -> &DataDir {
        &self.0.data
    }

    /// Bytes that are free on the disk of the data folder.
    ///
    /// # Errors
    /// The folder is gone or can't be read.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.0.reserve.free()
    }

    /// Keeps some room for removals on a full disk, where that is not kept and the disk has enough.
    ///
    /// # Errors
    /// The disk refuses it.
    pub async fn keep_reserve(&self) -> Result<(), StoreError> {
        let reserve = Arc::clone(&self.0.reserve);
        Ok(blocking(move || reserve.keep()).await?)
    }

    /// Finished executions that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.0.kept.load(Ordering::Relaxed)
    }

    /// Where a file lies that a record names.
    #[must_use]
    pub fn path_of(&self, file: ContentHash) -> PathBuf {
        self.0.blobs.path(file)
    }

    /// Takes a file in, which goes from where it was. `hash`: of its content, where that is known. `durable`: it outlives
    /// a loss of power.
    ///
    /// # Errors
    /// The disk is full or broken; then the file is still where it was.
    pub async fn take_file(
        &self,
        from: PathBuf,
        hash: Option<ContentHash>,
        durable: bool,
    ) -> Result<Pin, StoreError> {
        let blobs = Arc::clone(&self.0.blobs);
        Ok(blocking(move || blobs.take(&from, hash, durable)).await?)
    }

    /// Makes a file of these pieces, one after the other.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn put_file(&self, pieces: Vec<bytes::Bytes>, durable: bool) -> Result<Pin, StoreError> {
        let blobs = Arc::clone(&self.0.blobs);
        let put = move || {
            let pieces: Vec<&[u8]> = pieces.iter().map(AsRef::as_ref).collect();
            blobs.put(&pieces, durable)
        };
        Ok(blocking(put).await?)
    }

    /// Holds these files, of these sizes, until they are read; `None` where one is gone.
    ///
    /// # Errors
    /// One does not have its size, or the disk is broken.
    pub async fn hold(&self, files: Vec<(ContentHash, u64)>) -> Result<Option<Hold>, StoreError> {
        let blobs = Arc::clone(&self.0.blobs);
        Ok(blocking(move || blobs.hold(&files)).await?)
    }

    /// Keeps a new execution. One whose caller does not wait is on the disk when this returns; the others are written,
    /// and survive the end of this process.
    ///
    /// # Errors
    /// The database can't be written; nothing of it is kept.
    pub async fn accept(&self, new: Acceptance) -> Result<Accepted, StoreError> {
        let durability = if new.detached { Durability::Power } else { Durability::Process };
        Ok(self
            .0
            .writer
            .write("accept", durability, move |connection| records::accept(connection, &new))
            .await?)
    }

    /// The execution that this key of the tenant's names, if it is the same request.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn look_up_key(
        &self,
        tenant: String,
        key: String,
        request: [u8; 32],
        now_ms: i64,
    ) -> Result<Option<Accepted>, StoreError> {
        let found =
            self.read(move |connection| records::look_up_key(connection, &tenant, &key, now_ms)).await?;
        Ok(found.map(|(id, known)| if known == request { Accepted::Known(id) } else { Accepted::KeyReused }))
    }

    /// An attempt begins.
    ///
    /// # Errors
    /// The database can't be written.
    pub async fn begin(&self, id: Uuid, attempt: u32) -> Result<(), StoreError> {
        let begin = move |connection: &Connection| records::begin(connection, id, attempt);
        Ok(self.0.writer.write("begin", Durability::Process, begin).await?)
    }

    /// It waits again, for this server or the next; `attempt` have been begun so far.
    ///
    /// # Errors
    /// The database can't be written.
    pub async fn put_back(&self, id: Uuid, attempt: u32) -> Result<(), StoreError> {
        let put_back = move |connection: &Connection| records::put_back(connection, id, attempt);
        Ok(self.0.writer.write("put_back", Durability::Process, put_back).await?)
    }

    /// It has finished, once and for all. False when it had before, or is at another attempt: then nothing changes.
    /// `durable` as in [`Self::accept`].
    ///
    /// # Errors
    /// The database can't be written; it has not finished then.
    pub async fn finish(&self, end: Arc<Ending>, durable: bool) -> Result<bool, StoreError> {
        let durability = if durable { Durability::Power } else { Durability::Process };
        let finish = move |connection: &Connection| records::finish(connection, &end);
        let freed = self.0.writer.write("finish", durability, finish).await?;
        let Some(freed) = freed else { return Ok(false) };
        self.0.kept.fetch_add(1, Ordering::Relaxed);
        self.collect_later(freed);
        Ok(true)
    }

    /// A finished execution of this tenant.
    ///
    /// # Errors
    /// The database can't be read, or the record is damaged.
    pub async fn find(&self, tenant: String, id: Uuid) -> Result<Option<Kept>, StoreError> {
        self.read(move |connection| records::find(connection, &tenant, id)).await
    }

    /// What an earlier server left before its end, in the order of acceptance.
    ///
    /// # Errors
    /// The database can't be read, or a record is damaged.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.read(records::unfinished).await
    }

    /// Forgets the idempotency key of an execution that nobody was told of.
    ///
    /// # Errors
    /// The database can't be written.
    pub async fn forget_key(&self, id: Uuid) -> Result<(), StoreError> {
        let forget = move |connection: &Connection| records::forget_key(connection, id);
        Ok(self.0.writer.write("forget_key", Durability::Process, forget).await?)
    }

    /// Forgets a finished execution with its files.
    ///
    /// # Errors
    /// The database can't be written.
    pub async fn purge(&self, tenant: String, id: Uuid) -> Result<(), StoreError> {
        let purge = move |connection: &Connection| retention::purge(connection, &tenant, id);
        let gone = self.0.writer.free("purge", purge).await?;
        self.forgotten(gone).await
    }

    /// Forgets what is too old, and what is too much of these tenants', and collects what was purged while it was read.
    ///
    /// # Errors
    /// The database can't be written.
    pub async fn expire(
        &self,
        policy: RetentionPolicy,
        tenants: Vec<String>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let writer = &self.0.writer;
        self.collect(self.0.blobs.released()).await?;
        loop {
            let old = move |connection: &Connection| retention::expire_by_age(connection, &policy, now_ms);
            let gone = writer.free("expire_age", old).await?;
            let more = gone.is_full();
            self.forgotten(gone).await?;
            if !more {
                break;
            }
        }
        for tenant in tenants {
            loop {
                let tenant = tenant.clone();
                let much =
                    move |connection: &Connection| retention::expire_of_tenant(connection, &policy, &tenant);
                let gone = writer.free("expire_tenant", much).await?;
                let more = gone.is_full();
                self.forgotten(gone).await?;
                if !more {
                    break;
                }
            }
        }
        let keys = move |connection: &Connection| records::expire_keys(connection, now_ms);
        Ok(writer.free("expire_keys", keys).await?)
    }

    async fn forgotten(&self, gone: Gone) -> Result<(), StoreError> {
        self.0.kept.fetch_sub(gone.count, Ordering::Relaxed);
        self.collect(gone.files).await
    }

    /// Removes the files that a crash left without a record.
    ///
    /// # Errors
    /// The database or the folder can't be used.
    pub async fn collect_all(&self) -> Result<(), StoreError> {
        let blobs = Arc::clone(&self.0.blobs);
        let all = blocking(move || blobs.all()).await?;
        for some in all.chunks(COLLECTED) {
            self.collect(some.to_vec()).await?;
        }
        Ok(())
    }

    fn collect_later(&self, files: Vec<ContentHash>) {
        if files.is_empty() {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            if let Err(error) = store.collect(files).await {
                tracing::warn!(%error, "files that no record names are left; the next start collects them");
            }
        });
    }

    /// Removes those of these files that no record names. The look and the removal happen on the thread that writes
    /// records, so that no record comes in between.
    async fn collect(&self, files: Vec<ContentHash>) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        let blobs = Arc::clone(&self.0.blobs);
        let discard = move |connection: &Connection| -> rusqlite::Result<std::io::Result<()>> {
            for file in &files {
                if !records::is_named(connection, *file)?
                    && let Err(error) = blobs.discard(*file)
                {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        };
        self.0.writer.free("discard", discard).await??;
        let blobs = Arc::clone(&self.0.blobs);
        Ok(blocking(move || blobs.empty_trash()).await?)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        Ok(self.0.readers.read(read).await?)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
