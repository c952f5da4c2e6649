//! The files that an execution left: the list, one of them, all of them.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures::Stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use crate::execution::id::Tenant;
use crate::execution::state::{Execution, Finished};
use crate::http::State;
use crate::http::error::{ApiError, Code, Problem};
use crate::http::executions::id;
use crate::http::result::{ArtifactItem, artifacts};
use crate::sandbox::Artifact;

/// Bytes that go to the connection at a time.
const PIECE: usize = 64 << 10;
/// A reader that takes no piece for this long is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// The artifacts of one execution.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ArtifactList {
    /// In the order in which they came; empty until the execution has ended.
    artifacts: Vec<ArtifactItem>,
    /// Some are missing because of a cap.
    truncated: bool,
}

/// The list.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}/artifacts", tag = "artifacts",
    params(("id" = String, Path, description = "Execution id")),
    responses(
        (status = 200, body = ArtifactList),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let execution = find(&request, &state)?;
    let finished = execution.finished.as_deref();
    Ok(HttpResponse::Ok().json(ArtifactList {
        artifacts: finished.map(artifacts).unwrap_or_default(),
        truncated: finished.is_some_and(|finished| finished.truncated.artifacts),
    }))
}

/// One file, byte for byte. Never shown by a browser, whatever it is.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}/artifacts/{path}", tag = "artifacts",
    params(
        ("id" = String, Path, description = "Execution id"),
        ("path" = String, Path, description = "As in the list; may hold `/`"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn one(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let execution = find(&request, &state)?;
    let path = wanted_path(&request)?;
    let finished = execution.finished.as_deref();
    // Looked up in the list, so that no name of the caller's ever reaches the file system.
    let artifact = finished
        .and_then(|finished| finished.artifacts.iter().find(|artifact| artifact.path.as_bytes() == path))
        .ok_or_else(|| ApiError::new(Code::NotFound, "this execution has no such artifact"))?;
    let file = tokio::fs::File::open(&artifact.file).await.map_err(|error| gone(&error))?;
    let name = artifact.path.rsplit('/').next().unwrap_or_default();
    let stream = ReaderStream::with_capacity(file, PIECE);
    Ok(download("application/octet-stream", name).body(SizedStream::new(artifact.size, stream)))
}

/// All of them, as a tar archive.
#[utoipa::path(
    get, path = "/api/v1/executions/{id}/artifacts.tar", tag = "artifacts",
    params(("id" = String, Path, description = "Execution id")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn all(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let execution = find(&request, &state)?;
    let finished = execution.finished.clone().ok_or_else(|| {
        ApiError::new(Code::NotFound, "the execution has not ended yet, so there are no artifacts")
    })?;
    let name = format!("{}.tar", execution.id);
    // Opened before the first byte is sent: a purge in between gives all of them or none.
    let files = open_all(Arc::clone(&finished)).await?;
    Ok(download("application/x-tar", &name).streaming(tar_stream(finished, files)))
}

fn find(request: &HttpRequest, state: &State) -> Result<Execution, ApiError> {
    let id = id(request)?;
    state.app.service.get(&Tenant::local(), id).ok_or_else(ApiError::no_execution)
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

async fn open_all(finished: Arc<Finished>) -> Result<Vec<File>, ApiError> {
    let open = move || finished.artifacts.iter().map(|artifact| File::open(&artifact.file)).collect();
    let opened: io::Result<Vec<File>> =
        actix_web::web::block(open).await.map_err(|error| ApiError::internal(&error))?;
    opened.map_err(|error| gone(&error))
}

/// The archive is written by a blocking thread as fast as the connection takes it.
fn tar_stream(finished: Arc<Finished>, files: Vec<File>) -> impl Stream<Item = io::Result<Bytes>> {
    let (sender, mut receiver) = mpsc::channel(2);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let pieces = Pieces { sender, runtime, buffer: Vec::with_capacity(PIECE) };
        if let Err(error) = write_tar(&finished.artifacts, files, pieces) {
            tracing::debug!(%error, "a download of artifacts ended early");
        }
    });
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

fn write_tar(artifacts: &[Artifact], files: Vec<File>, mut pieces: Pieces) -> io::Result<()> {
    let outcome = fill_tar(artifacts, files, &mut pieces).and_then(|()| pieces.flush());
    if let Err(error) = &outcome {
        // Without it the archive would look whole, only shorter.
        pieces.fail(error);
    }
    outcome
}

fn fill_tar(artifacts: &[Artifact], files: Vec<File>, pieces: &mut impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(pieces);
    for (artifact, file) in artifacts.iter().zip(files) {
        let mut head = tar::Header::new_gnu();
        head.set_size(artifact.size);
        head.set_mode(0o644);
        // The length is promised in the head: a file that grew or shrank must not break the ones after it.
        tar.append_data(&mut head, &artifact.path, io::Read::take(file, artifact.size))?;
    }
    tar.finish()
}

/// Gathers what is written and passes it on in pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    runtime: tokio::runtime::Handle,
    buffer: Vec<u8>,
}

impl Pieces {
    fn send(&mut self, piece: io::Result<Bytes>) -> io::Result<()> {
        let sent = tokio::time::timeout(WRITE_DEADLINE, self.sender.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")),
        }
    }

    /// Breaks the connection off. Nobody may be there to see it.
    fn fail(&mut self, error: &io::Error) {
        drop(self.send(Err(io::Error::new(error.kind(), "the archive could not be written"))));
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        if piece.is_empty() { Ok(()) } else { self.send(Ok(Bytes::from(piece))) }
    }
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
