//! The multipart body: the `tar` part goes straight into the archive reader, the `metadata` part is JSON.

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::http::header::HeaderMap;
use actix_web::web::{self, BytesMut};
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use crate::archive::{ArchiveError, ArchiveLimits, ArchiveReader, Project};
use crate::http::body::{Body, read_error};
use crate::http::error::{ApiError, Code};
use crate::http::request::{ExecRequest, parse};

/// Room for the bytes that are gathered before they go to a blocking thread: the hop costs more than reading a few of them.
const PIECE: usize = 256 << 10;

/// Where the parts go.
pub(super) struct Caps {
    pub(super) spool: std::path::PathBuf,
    pub(super) archive: ArchiveLimits,
    /// Of the metadata part, in bytes.
    pub(super) metadata: usize,
}

/// Reads both parts, in either order. Metadata may be missing: every field of it has a default.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    caps: &Caps,
) -> Result<(ExecRequest, Project), ApiError> {
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
    let project = project.ok_or_else(|| {
        ApiError::new(Code::MissingPart, "the `tar` part is missing: send the project as a tar archive in it")
    })?;
    Ok((metadata.unwrap_or_default(), project))
}

fn unknown_part(name: Option<&str>) -> ApiError {
    let name: String = name.unwrap_or_default().chars().take(100).collect();
    let detail = format!("part {name:?} is not known; the parts are `tar` and `metadata`");
    ApiError::new(Code::UnknownPart, detail)
}

async fn read_metadata(field: &mut Field, caps: &Caps) -> Result<ExecRequest, ApiError> {
    let mut json = BytesMut::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(multipart_error)?;
        if json.len() + chunk.len() > caps.metadata {
            let detail = format!("the `metadata` part is over this server's cap of {} bytes", caps.metadata);
            return Err(ApiError::new(Code::BodyTooLarge, detail));
        }
        json.extend_from_slice(&chunk);
    }
    let request: ExecRequest =
        parse(&json).map_err(|error| ApiError { detail: format!("metadata: {}", error.detail), ..error })?;
    Ok(request)
}

async fn read_archive(field: &mut Field, caps: &Caps) -> Result<Project, ApiError> {
    let (spool, limits) = (caps.spool.clone(), caps.archive);
    let reader = blocking(move || ArchiveReader::new(&spool, limits)).await?;
    let mut under_way = push(reader, BytesMut::new());
    let mut piece = BytesMut::with_capacity(PIECE);
    while let Some(chunk) = field.next().await {
        piece.extend_from_slice(&chunk.map_err(multipart_error)?);
        if piece.len() >= PIECE / 2 {
            let (reader, empty) = pushed(under_way).await?;
            under_way = push(reader, std::mem::replace(&mut piece, empty));
        }
    }
    let (mut reader, _) = pushed(under_way).await?;
    blocking(move || {
        reader.push(&piece)?;
        reader.finish()
    })
    .await
}

type Pushing = JoinHandle<Result<(ArchiveReader, BytesMut), ArchiveError>>;

/// The reader moves to a blocking thread, where it is busy while the next piece comes.
fn push(mut reader: ArchiveReader, mut piece: BytesMut) -> Pushing {
    tokio::task::spawn_blocking(move || {
        reader.push(&piece)?;
        piece.clear();
        Ok((reader, piece))
    })
}

/// The reader is back; the buffer is empty.
async fn pushed(pushing: Pushing) -> Result<(ArchiveReader, BytesMut), ApiError> {
    Ok(pushing.await.map_err(|error| ApiError::internal(&error))??)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(web::block(work).await.map_err(|error| ApiError::internal(&error))??)
}

fn multipart_error(error: MultipartError) -> ApiError {
    match error {
        MultipartError::Payload(error) => read_error(&error),
        other => ApiError::new(Code::BadMultipart, format!("the multipart body can't be read: {other}")),
    }
}
