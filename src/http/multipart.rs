//! The multipart body: the `tar` part goes straight into the archive reader, the `metadata` part is JSON.

use std::future::pending;
use std::pin::Pin;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::http::header::HeaderMap;
use actix_web::web::{self, BytesMut};
use futures::StreamExt as _;

use crate::archive::{ArchiveError, ArchiveReader, Project};
use crate::execution::budget::{Reserved, Use};
use crate::http::body::{Body, read_error};
use crate::http::error::{ApiError, Code};
use crate::http::request::{ExecRequest, check, parse};
use crate::http::submission::Incoming;
use crate::http::text::{Caps, Gathering, Text};

/// Twice the bytes that are gathered before they go to a blocking thread: the hop costs more than reading a few of them.
const PIECE: usize = 256 << 10;

/// A multipart body whose metadata was not read yet.
pub(super) struct Parts {
    project: Project,
    metadata: Option<Text>,
    /// For the project.
    held: Reserved,
}

/// Reads both parts, in either order. Metadata may be missing: every field of it has a default.
pub(super) async fn read(headers: &HeaderMap, body: Body, caps: &Caps) -> Result<Parts, ApiError> {
    let mut parts = Multipart::new(headers, body);
    let (mut project, mut metadata) = (None, None);
    while let Some(field) = parts.next().await {
        let mut field = field.map_err(multipart_error)?;
        match field.name() {
            Some("tar") if project.is_none() => project = Some(read_archive(&mut field, caps).await?),
            Some("metadata") if metadata.is_none() => metadata = Some(read_metadata(&mut field, caps).await?),
            Some(name @ ("tar" | "metadata")) => {
                return Err(ApiError::new(Code::UnknownPart, format!("there is a second `{name}` part")));
            }
            other => return Err(unknown_part(other)),
        }
    }
    let (project, held) = project.ok_or_else(|| {
        ApiError::new(Code::MissingPart, "the `tar` part is missing: send the project as a tar archive in it")
    })?;
    Ok(Parts { project, metadata, held })
}

impl Parts {
    /// Reads the metadata. Not before the whole body is there: values are larger than their text, and a slow archive would
    /// hold them.
    pub(super) async fn request(self, caps: &Caps) -> Result<Incoming, ApiError> {
        let Self { project, metadata, mut held } = self;
        let Some(text) = metadata else {
            return Ok(Incoming { request: ExecRequest::default(), project, held });
        };
        let bytes = project.memory_bytes() + text.cost();
        caps.make_room(&mut held, bytes, Use::Reading).await?;
        let request = text.read(|text| parse(&text).map_err(of_metadata)).await?;
        Ok(Incoming { request, project, held })
    }
}

fn of_metadata(error: ApiError) -> ApiError {
    ApiError { detail: format!("metadata: {}", error.detail), ..error }
}

fn unknown_part(name: Option<&str>) -> ApiError {
    let name: String = name.unwrap_or_default().chars().take(100).collect();
    let detail = format!("part {name:?} is not known; the parts are `tar` and `metadata`");
    ApiError::new(Code::UnknownPart, detail)
}

async fn read_metadata(field: &mut Field, caps: &Caps) -> Result<Text, ApiError> {
    let mut json = Gathering::new(caps);
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(multipart_error)?;
        if json.len() + chunk.len() > caps.metadata {
            let detail = format!("the `metadata` part is over this server's cap of {} bytes", caps.metadata);
            return Err(ApiError::new(Code::BodyTooLarge, detail));
        }
        json.push(chunk).await?;
    }
    let text = json.finish();
    // A fault in a short one need not wait for the end of the archive.
    text.in_memory().map_or(Ok(()), check).map_err(of_metadata)?;
    Ok(text)
}

/// One piece is read from the caller while the one before it is written. What fits one piece goes to another thread once.
async fn read_archive(field: &mut Field, caps: &Caps) -> Result<(Project, Reserved), ApiError> {
    let mut archive = Archive::new(caps)?;
    let (mut piece, mut pieces) = (BytesMut::new(), caps.incoming());
    loop {
        let chunk = tokio::select! {
            biased;
            settled = archive.settle() => {
                settled?;
                continue;
            }
            chunk = field.next() => chunk,
        };
        let Some(chunk) = chunk else { break };
        piece.extend_from_slice(&chunk.map_err(multipart_error)?);
        // Without memory for a piece, what there is of it is written at once.
        if piece.len() >= PIECE / 2 || !pieces.try_resize(2 * piece.capacity()) {
            piece = archive.write(piece).await?;
        }
    }
    archive.finish(piece).await
}

/// The reader on a blocking thread, with a buffer that comes back empty.
type Writing = Pin<Box<dyn Future<Output = Result<(ArchiveReader, BytesMut), ApiError>>>>;

/// An archive that is on its way, with what it holds of the server's memory.
struct Archive<'a> {
    caps: &'a Caps,
    held: Reserved,
    /// While nothing is written.
    idle: Option<(ArchiveReader, BytesMut)>,
    writing: Option<Writing>,
    /// What is held is still what the last write could have needed.
    unsettled: bool,
}

impl<'a> Archive<'a> {
    fn new(caps: &'a Caps) -> Result<Self, ApiError> {
        let reader = ArchiveReader::new(&caps.spool, caps.archive)?;
        let idle = Some((reader, BytesMut::new()));
        Ok(Self { caps, held: caps.incoming(), idle, writing: None, unsettled: false })
    }

    /// Waits for the write that is under way, and gives back the memory that it did not need: the caller may send nothing
    /// for a while. Never ready when there is nothing to wait for.
    async fn settle(&mut self) -> Result<(), ApiError> {
        if let Some(writing) = &mut self.writing {
            self.idle = Some(writing.await?);
            self.writing = None;
        }
        let Some((reader, _)) = self.idle.as_ref().filter(|_| self.unsettled) else { return pending().await };
        let bytes = reader.memory_bytes();
        self.caps.make_room(&mut self.held, bytes, Use::Incoming).await?;
        self.unsettled = false;
        Ok(())
    }

    /// The reader once nothing is written, with room for what this piece can make it hold.
    async fn ready(&mut self, piece: &[u8]) -> Result<(ArchiveReader, BytesMut), ApiError> {
        while self.unsettled {
            self.settle().await?;
        }
        let (reader, free) =
            self.idle.take().ok_or_else(|| ApiError::internal(&"an archive without its reader"))?;
        let bytes = reader.memory_bytes() + reader.growth(piece);
        self.unsettled = true;
        self.caps.make_room(&mut self.held, bytes, Use::Reading).await?;
        Ok((reader, free))
    }

    /// Begins to write the piece. Gives another buffer.
    async fn write(&mut self, piece: BytesMut) -> Result<BytesMut, ApiError> {
        let (reader, free) = self.ready(&piece).await?;
        self.writing = Some(push(reader, piece));
        Ok(free)
    }

    /// Writes the last piece.
    async fn finish(mut self, piece: BytesMut) -> Result<(Project, Reserved), ApiError> {
        let (mut reader, _) = self.ready(&piece).await?;
        let finishing = blocking(move || {
            reader.push(&piece)?;
            reader.finish()
        });
        let project = finishing.await?;
        self.caps.make_room(&mut self.held, project.memory_bytes(), Use::Incoming).await?;
        Ok((project, self.held))
    }
}

/// Writes the piece, whether or not anybody waits for it.
fn push(mut reader: ArchiveReader, mut piece: BytesMut) -> Writing {
    Box::pin(blocking(move || {
        reader.push(&piece)?;
        piece.clear();
        Ok((reader, piece))
    }))
}

/// Begins at once, before anybody waits for it.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> impl Future<Output = Result<T, ApiError>> {
    let working = web::block(work);
    async { Ok(working.await.map_err(|error| ApiError::internal(&error))??) }
}

fn multipart_error(error: MultipartError) -> ApiError {
    match error {
        MultipartError::Payload(error) => read_error(&error),
        other => ApiError::new(Code::BadMultipart, format!("the multipart body can't be read: {other}")),
    }
}
