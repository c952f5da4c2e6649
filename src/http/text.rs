//! The JSON text of a request: in memory while it is short, else in a file without a name, so that callers who take their
//! time hold next to nothing of the server's memory. What reading it takes is reserved before it is read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Bytes};
use tokio::sync::Semaphore;

use crate::archive::ArchiveLimits;
use crate::execution::budget::{Budget, Reserved, Use};
use crate::execution::id::Tenant;
use crate::http::error::{ApiError, Code};
use crate::http::shape::MAX_VALUES;

/// Bytes of a text that stay in memory: less than what is read from a connection at once, so that what comes of a longer
/// text goes to its file as it was read, and a caller who stalls holds nothing. With as many callers as there are
/// connections, 8 MiB: an eighth of the default budget.
const IN_MEMORY: usize = 4 << 10;
/// What reading a text may hold for each of its bytes: the text, a string of it without its escapes, and the value.
const COPIES: usize = 3;
/// Bytes that a value takes beside its text: an entry of a map with the heads of its two strings.
const VALUE_BYTES: usize = 128;
/// What its record may take while it is written: of an asynchronous one, a project that is not kept as a file.
const RECORD_BYTES: usize = 64 << 10;
/// How long a complete request waits for memory before it is answered 429.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the parts of a request go, and what they may take.
pub(super) struct Caps {
    pub(super) spool: PathBuf,
    pub(super) archive: ArchiveLimits,
    /// Of the metadata part, in bytes.
    pub(super) metadata: usize,
    /// For all requests together.
    pub(super) memory: Budget,
    /// Whose request it is.
    pub(super) tenant: Tenant,
    /// One permit for each text that is written to its file just now.
    pub(super) writes: Arc<Semaphore>,
}

/// Texts that are written at once. With hundreds of threads for that, the ones that serve would hardly get a processor.
pub(super) const WRITES: usize = 32;

impl Caps {
    /// Nothing of the memory yet, for a request that is on its way.
    pub(super) fn incoming(&self) -> Reserved {
        self.memory.nothing(&self.tenant, Use::Incoming)
    }

    /// Room for reading a text. Waits for it.
    pub(super) async fn room(&self, text: &Text) -> Result<Reserved, ApiError> {
        let mut reserved = self.memory.nothing(&self.tenant, Use::Reading);
        self.make_room(&mut reserved, text.cost(), Use::Reading).await?;
        Ok(reserved)
    }

    /// Makes a reservation so much for this use. Waits for it.
    pub(super) async fn make_room(
        &self,
        reserved: &mut Reserved,
        bytes: usize,
        what: Use,
    ) -> Result<(), ApiError> {
        if reserved.turn(bytes.min(self.memory.most()), what, PATIENCE).await {
            return Ok(());
        }
        let detail = "other requests take the memory that this server has for them, or yours take your share of it; try \
                      again later";
        Err(ApiError::new(Code::TooManyUploads, detail))
    }
}

/// A text that is on its way.
pub(super) struct Gathering<'a> {
    caps: &'a Caps,
    memory: Vec<u8>,
    reserved: Reserved,
    file: Option<File>,
    length: usize,
    separators: usize,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(caps: &'a Caps) -> Self {
        Self { caps, memory: Vec::new(), reserved: caps.incoming(), file: None, length: 0, separators: 0 }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Takes the next piece. Without memory for it, it goes to the file at once: nobody is refused for want of it.
    pub(super) async fn push(&mut self, piece: Bytes) -> Result<(), ApiError> {
        self.length += piece.len();
        let length = self.memory.len() + piece.len();
        if length > IN_MEMORY || !self.reserved.try_resize(length) {
            return self.spill(piece).await;
        }
        self.memory.extend_from_slice(&piece);
        Ok(())
    }

    /// Writes what is in memory, and this piece behind it.
    async fn spill(&mut self, piece: Bytes) -> Result<(), ApiError> {
        let _permit = self.caps.writes.acquire().await.map_err(|error| ApiError::internal(&error))?;
        let gathered = std::mem::take(&mut self.memory);
        let (file, folder) = (self.file.take(), self.caps.spool.clone());
        let file = blocking(move || {
            let mut file = file.map_or_else(|| tempfile::tempfile_in(&folder), Ok)?;
            file.write_all(&gathered)?;
            file.write_all(&piece)?;
            Ok((file, separators(&gathered) + separators(&piece)))
        });
        let (file, separators) = file.await?;
        (self.file, self.separators) = (Some(file), self.separators + separators);
        self.reserved.try_resize(0);
        Ok(())
    }

    /// The text is complete.
    pub(super) fn finish(self) -> Text {
        let Self { memory, reserved, file, length, .. } = self;
        let separators = self.separators + separators(&memory);
        Text { memory, file, length, separators, _reserved: reserved }
    }
}

/// Bytes that can stand before a value.
fn separators(piece: &[u8]) -> usize {
    piece.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

/// A text that is complete.
pub(super) struct Text {
    /// Behind what is in the file, where there is one.
    memory: Vec<u8>,
    file: Option<File>,
    length: usize,
    /// There are no more values than these, and one.
    separators: usize,
    _reserved: Reserved,
}

impl Text {
    /// Bytes that reading it may take.
    pub(super) fn cost(&self) -> usize {
        RECORD_BYTES + COPIES * self.length + VALUE_BYTES * self.separators.min(MAX_VALUES)
    }

    /// All of it, where it is in memory.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        self.file.is_none().then_some(&self.memory)
    }

    /// Makes something of it: here when it is short, else on a thread of its own.
    pub(super) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(Vec<u8>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self { memory, file, length, _reserved, .. } = self;
        let Some(mut file) = file else { return read(memory) };
        let reading = web::block(move || {
            let mut text = Vec::with_capacity(length);
            let whole = file.rewind().and_then(|()| file.read_to_end(&mut text));
            whole.map_err(|error| ApiError::storage(&error))?;
            text.extend_from_slice(&memory);
            read(text)
        });
        reading.await.map_err(|error| ApiError::internal(&error))?
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let done = web::block(work).await.map_err(|error| ApiError::internal(&error))?;
    done.map_err(|error| ApiError::storage(&error))
}
