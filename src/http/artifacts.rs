//! The files that an execution left: the list, one of them, all of them.

use std::io;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, Range};
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use crate::execution::state::{Execution, Finished};
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Code, Problems};
use crate::http::executions::{IdPath, id};
use crate::http::result::{ArtifactItem, artifacts};
use crate::sandbox::Artifact;
use crate::store::{ContentHash, Hold, Scope, verified, verify};

/// Bytes of a part that go to the connection at a time.
const PIECE: usize = 64 << 10;
/// A tar archive is made of these.
const BLOCK: u64 = 512;

/// The artifacts of one execution.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ArtifactList {
    /// In the order in which they came; empty until the execution has ended.
    artifacts: Vec<ArtifactItem>,
    /// Some are missing because of a cap.
    truncated: bool,
}

/// Bytes of any kind.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct Binary(Vec<u8>);

/// The list.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}/artifacts", operation_id = "list_artifacts", tag = "artifacts",
    params(IdPath),
    responses(
        (status = 200, description = "The list", body = ArtifactList),
        Problems,
    )
)]
pub(super) async fn list(
    request: HttpRequest,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    let execution = find(&request, &caller, &state).await?;
    let finished = execution.finished.as_deref();
    Ok(HttpResponse::Ok().json(ArtifactList {
        artifacts: finished.map(artifacts).unwrap_or_default(),
        truncated: finished.is_some_and(|finished| finished.truncated.artifacts),
    }))
}

/// One file, byte for byte, or one part of it by `Range`. Never shown by a browser, whatever it is.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}/artifacts/{path}", operation_id = "get_artifact", tag = "artifacts",
    params(IdPath, ("path" = String, Path, description = "As in the list; may hold `/`")),
    responses(
        (status = 200, description = "Its content", body = Binary, content_type = "application/octet-stream"),
        (status = 206, description = "The part that `Range` names", body = Binary, content_type = "application/octet-stream"),
        Problems,
    )
)]
pub(super) async fn one(
    request: HttpRequest,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    let execution = find(&request, &caller, &state).await?;
    let path = wanted_path(&request)?;
    let finished = execution.finished.as_deref();
    // Looked up in the list, so that no name of the caller's ever reaches the file system.
    let artifact = finished
        .and_then(|finished| finished.artifacts.iter().find(|artifact| artifact.path.as_bytes() == path))
        .ok_or_else(|| ApiError::new(Code::NotFound, "this execution has no such artifact"))?;
    if let Some((from, to)) = wanted_range(&request, artifact)? {
        return part(artifact, from, to).await;
    }
    let mut content = Box::pin(content(artifact).await.map_err(|error| gone(&error))?);
    // A small file that was changed on the disk is told as our failure; of a larger one the answer breaks off.
    let first = content.next().await.transpose().map_err(|error| ApiError::internal(&error))?;
    let stream = stream::iter(first.map(Ok)).chain(content);
    Ok(file_download(artifact).body(SizedStream::new(artifact.size, stream)))
}

/// The one part of the file that the request asks for, its last byte included. Several parts, and a part of a file that
/// has another content by now (`If-Range`), are answered with the whole file.
fn wanted_range(request: &HttpRequest, artifact: &Artifact) -> Result<Option<(u64, u64)>, ApiError> {
    let Some(header) = request.headers().get(header::RANGE) else { return Ok(None) };
    let same =
        request.headers().get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag(artifact).as_bytes());
    let range = header.to_str().ok().and_then(|text| text.parse::<Range>().ok());
    let Some(Range::Bytes(parts)) = range.filter(|_| same) else { return Ok(None) };
    let [part] = &parts[..] else { return Ok(None) };
    let size = artifact.size;
    let found = part.to_satisfiable_range(size).ok_or_else(|| {
        let detail =
            format!("the file has {size} bytes, and none of them are in the range that was asked for");
        ApiError { size: Some(size), ..ApiError::new(Code::RangeNotSatisfiable, detail) }
    });
    found.map(Some)
}

/// A part of a file. Its hash is of the whole, so the whole is read before the part is given out.
async fn part(artifact: &Artifact, from: u64, to: u64) -> Result<HttpResponse, ApiError> {
    let hash = ContentHash::from_hex(&artifact.sha256).ok_or_else(|| ApiError::internal(&"no hash"))?;
    let mut file = File::open(&artifact.file).await.map_err(|error| gone(&error))?.into_std().await;
    let size = artifact.size;
    let checked = web::block(move || verify(&mut file, size, hash).map(|()| file)).await;
    let file =
        checked.map_err(|error| ApiError::internal(&error))?.map_err(|error| ApiError::internal(&error))?;
    let mut file = File::from_std(file);
    file.seek(io::SeekFrom::Start(from)).await.map_err(|error| ApiError::internal(&error))?;
    let length = to - from + 1;
    let stream = ReaderStream::with_capacity(file.take(length), PIECE);
    let mut response = file_download(artifact);
    response
        .status(StatusCode::PARTIAL_CONTENT)
        .insert_header((header::CONTENT_RANGE, format!("bytes {from}-{to}/{size}")));
    Ok(response.body(SizedStream::new(length, stream)))
}

/// Names the content, as a header value.
fn etag(artifact: &Artifact) -> String {
    format!("\"{}\"", artifact.sha256)
}

fn file_download(artifact: &Artifact) -> HttpResponseBuilder {
    let name = artifact.path.rsplit('/').next().unwrap_or_default();
    let mut response = download("application/octet-stream", name);
    response.insert_header((header::ACCEPT_RANGES, "bytes")).insert_header((header::ETAG, etag(artifact)));
    response
}

/// All of them, as a tar archive.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}/artifacts.tar", operation_id = "get_artifacts_tar", tag = "artifacts",
    params(IdPath),
    responses(
        (status = 200, description = "The archive", body = Binary, content_type = "application/x-tar"),
        Problems,
    )
)]
pub(super) async fn all(
    request: HttpRequest,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    let execution = find(&request, &caller, &state).await?;
    let finished = execution.finished.clone().ok_or_else(|| {
        ApiError::new(Code::NotFound, "the execution has not ended yet, so there are no artifacts")
    })?;
    let name = format!("{}.tar", execution.id);
    let held = state.app.service.hold_artifacts(&finished).await;
    // A purge before this takes all of them, and one after this none.
    let hold = held.map_err(|error| ApiError::internal(&error))?.ok_or_else(ApiError::no_execution)?;
    Ok(download("application/x-tar", &name).streaming(tar_stream(finished, hold)))
}

async fn find(request: &HttpRequest, caller: &Caller, state: &State) -> Result<Execution, ApiError> {
    let tenant = caller.tenant(Scope::Read)?;
    let id = id(request)?;
    let found = state.app.service.get(tenant, id).await?;
    caller.audit("read_artifacts", id, found.is_some());
    found.ok_or_else(ApiError::no_execution)
}

/// The path after `/artifacts/`, decoded once. From the raw path: the router decodes some characters itself.
fn wanted_path(request: &HttpRequest) -> Result<Vec<u8>, ApiError> {
    let (_, encoded) = request.uri().path().split_once("/artifacts/").unwrap_or_default();
    percent_decode(encoded).ok_or_else(|| {
        ApiError::new(Code::BadPath, "a `%` in the path needs two hexadecimal digits after it")
    })
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { hex(bytes.next()?)? << 4 | hex(bytes.next()?)? } else { byte });
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// Headers under which no browser runs or shows what it gets.
fn download(content_type: &str, name: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((header::CONTENT_DISPOSITION, disposition(name)))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"));
    response
}

/// RFC 6266: a plain name for old readers, the exact one for the others.
fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fallback: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let exact: String = name
        .bytes()
        .map(
            |byte| {
                if plain(char::from(byte)) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect();
    format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{exact}")
}

/// The file was there when the execution ended; a purge may have taken it since.
fn gone(error: &io::Error) -> ApiError {
    match error.kind() {
        io::ErrorKind::NotFound => ApiError::no_execution(),
        _ => ApiError::internal(error),
    }
}

/// The content of an artifact, exactly as the program left it.
async fn content(artifact: &Artifact) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
    let hash = ContentHash::from_hex(&artifact.sha256).ok_or(io::ErrorKind::InvalidData)?;
    let file = File::open(&artifact.file).await?.into_std().await;
    Ok(verified(file, artifact.size, hash))
}

/// What stands before a file's content; long names take more than one block.
fn tar_head(artifact: &Artifact) -> io::Result<Bytes> {
    let mut head = tar::Header::new_gnu();
    head.set_size(artifact.size);
    head.set_mode(0o644);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut head, &artifact.path, io::empty())?;
    Ok(Bytes::copy_from_slice(tar.get_ref()))
}

/// As fast as the connection takes it, with one file open at a time and no more of it in memory than a piece.
fn tar_stream(finished: Arc<Finished>, hold: Hold) -> impl Stream<Item = io::Result<Bytes>> {
    let count = finished.artifacts.len();
    // Dropped with the last of it.
    let held = Arc::new((finished, hold));
    let files = stream::iter(0..count).then(move |index| {
        let held = Arc::clone(&held);
        async move { tar_entry(&held.0.artifacts[index]).await }
    });
    files.try_flatten().chain(stream::iter([Ok(zeros(2 * BLOCK))]))
}

/// The head, the content, and what fills it up to whole blocks.
async fn tar_entry(artifact: &Artifact) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
    let head = tar_head(artifact)?;
    let content = content(artifact).await?;
    let padding = artifact.size.next_multiple_of(BLOCK) - artifact.size;
    Ok(stream::iter([Ok(head)]).chain(content).chain(stream::iter([Ok(zeros(padding))])))
}

/// At most the two blocks that end an archive.
fn zeros(count: u64) -> Bytes {
    static ZEROS: [u8; 1024] = [0; 1024];
    let count = usize::try_from(count).unwrap_or(ZEROS.len());
    Bytes::from_static(&ZEROS[..count.min(ZEROS.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_old_and_new_readers() {
        assert_eq!(
            disposition("b\u{e4}r \"x\".png"),
            "attachment; filename=\"b_r__x_.png\"; filename*=UTF-8''b%C3%A4r%20%22x%22.png"
        );
        assert_eq!(disposition("a\r\nb"), "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab");
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(percent_decode("a%2Fb%252e%00").unwrap(), b"a/b%2e\0");
        for bad in ["%", "%1", "%zz", "%+1"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
