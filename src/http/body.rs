//! The body of a request as a stream that holds its own cap and pace.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpRequest};
use futures::{Stream, StreamExt as _};

use crate::config::RequestConfig;
use crate::http::connections::OnDemand;
use crate::http::error::{ApiError, Code};
use crate::http::pace::{Pace, TooSlow};
use crate::http::text::{Caps, Gathering, Text};
use crate::telemetry::Metrics;

/// From so many bytes on a body is read in larger pieces: it is one of the few that have an upload's place.
const LARGE: u64 = 256 << 10;
/// Bytes of these, about. Others come in reads of 8 KiB.
const PIECE: usize = 64 << 10;

/// A body under a cap and a pace. Only the time spent waiting for the caller counts, never our own.
pub(super) struct Body {
    payload: Payload,
    demand: Option<OnDemand>,
    pace: Pace,
    cap: u64,
    received: u64,
    metrics: std::sync::Arc<Metrics>,
}

impl Body {
    pub(super) fn new(
        payload: Payload,
        demand: Option<OnDemand>,
        config: &RequestConfig,
        cap: u64,
        metrics: std::sync::Arc<Metrics>,
    ) -> Self {
        let pace = Pace::growing(Duration::from_secs(config.body_idle_seconds), config.body_min_rate);
        Self { payload, demand, pace, cap, received: 0, metrics }
    }

    /// Everything, as a text that is read later.
    pub(super) async fn collect(mut self, caps: &Caps) -> Result<Text, ApiError> {
        let mut text = Gathering::new(caps);
        while let Some(chunk) = self.next().await {
            text.push(chunk.map_err(|error| read_error(&error))?).await?;
        }
        Ok(text.finish())
    }

    fn take(&mut self, chunk: Bytes) -> Result<Bytes, PayloadError> {
        self.received += chunk.len() as u64;
        self.metrics.uploaded(chunk.len() as u64);
        if self.received > self.cap {
            return Err(PayloadError::Overflow);
        }
        self.pace.moved(chunk.len()).map_err(slow)?;
        Ok(chunk)
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match Pin::new(&mut this.payload).poll_next(context) {
            Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Some(this.take(chunk))),
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                let piece = if this.received < LARGE { 1 } else { PIECE };
                this.demand.iter().for_each(|demand| demand.want(piece));
                this.pace.poll_stalled(context).map(|too_slow| Some(Err(slow(too_slow))))
            }
        }
    }
}

/// How the deadline travels through the multipart reader, which passes only the framework's own errors on.
fn slow(_: TooSlow) -> PayloadError {
    PayloadError::Io(io::Error::from(io::ErrorKind::TimedOut))
}

/// What a body that could not be read is answered with.
pub(super) fn read_error(error: &PayloadError) -> ApiError {
    match error {
        PayloadError::Io(cause) if cause.kind() == io::ErrorKind::TimedOut => {
            ApiError::new(Code::SlowBody, "the body stalled or came too slowly; send it again without pauses")
        }
        PayloadError::Overflow => ApiError::new(Code::BodyTooLarge, "the body is over this server's cap"),
        PayloadError::Incomplete(_) => ApiError::new(Code::BadRequest, "the body ended early"),
        _ => ApiError::new(Code::BadRequest, "the body could not be read"),
    }
}

/// Request bodies come as they are: nothing here decompresses, so that nothing can be made to.
pub(super) fn refuse_encoded(request: &HttpRequest) -> Result<(), ApiError> {
    let encodings = request.headers().get_all(header::CONTENT_ENCODING);
    if encodings.into_iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::UnsupportedEncoding,
        "send the body without Content-Encoding; the `tar` part itself may be gzip or zstd",
    ))
}

/// Whether the announced length is over the cap, so that not a byte of it need be read.
pub(super) fn refuse_long(request: &HttpRequest, cap: u64) -> Result<(), ApiError> {
    match content_length(request) {
        Some(length) if length > cap => Err(ApiError::new(
            Code::BodyTooLarge,
            format!("the body has {length} bytes; this server takes at most {cap}"),
        )),
        _ => Ok(()),
    }
}

/// The announced length, where there is one.
pub(super) fn content_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What a body claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Multipart,
    Json,
}

/// What the body claims to be; anything else is refused.
pub(super) fn kind(request: &HttpRequest, wanted: &[Kind]) -> Result<Kind, ApiError> {
    let claimed = request.content_type().to_ascii_lowercase();
    let kind = match claimed.as_str() {
        "multipart/form-data" => Some(Kind::Multipart),
        "application/json" => Some(Kind::Json),
        _ => None,
    };
    kind.filter(|kind| wanted.contains(kind)).ok_or_else(|| {
        let names: Vec<_> = wanted.iter().map(|kind| kind.name()).collect();
        ApiError::new(Code::UnsupportedMediaType, format!("the Content-Type must be {}", names.join(" or ")))
    })
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Multipart => "multipart/form-data",
            Self::Json => "application/json",
        }
    }
}
