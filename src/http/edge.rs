//! What every request passes on its way in and out: its id, the host and key checks, the problem body, headers, one log line.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use tracing::info;
use uuid::Uuid;

use crate::http::connections::{Busy, Connection};
use crate::http::error::{ApiError, Code};
use crate::http::rate::Standing;
use crate::http::{State, auth, cross_origin};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A caller's own request id may be this long.
const MAX_REQUEST_ID: usize = 64;
/// Nothing that the API answers is a page.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// The documentation page loads its own files and asks this server, nothing else.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

pub(super) async fn edge(
    state: Data<State>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let busy = request.conn_data::<Arc<Connection>>().map(Connection::begin);
    let id = request_id(request.headers());
    let mut response = match check(&state, &request, &id) {
        Ok(()) => as_problem(next.call(request).await?.map_into_boxed_body(), &id),
        Err(refusal) => request.into_response(refusal.respond(&id)),
    };
    if started.elapsed() >= auth::TRUSTED
        && let Err(refusal) = auth::confirm(&state, response.request())
    {
        let (request, _) = response.into_parts();
        response = ServiceResponse::new(request, refusal.respond(&id));
    }
    let standing = response.request().extensions().get::<Standing>().copied();
    if let Some(standing) = standing {
        standing.add_headers(response.headers_mut());
    }
    let docs = response.request().path().starts_with("/docs");
    add_headers(response.headers_mut(), &id, docs);
    record(&state, &response, &id, started);
    let is_head = response.request().method() == Method::HEAD;
    Ok(response.map_body(|_, body| BoxBody::new(BusyBody::new(body, is_head, busy))))
}

/// An answer's body. Its connection is busy for as long as there is something of it left.
struct BusyBody {
    /// None for HEAD: the web framework sends nothing of its body, and would ask for all of it.
    body: Option<BoxBody>,
    size: BodySize,
    _busy: Option<Busy>,
}

impl BusyBody {
    fn new(body: BoxBody, is_head: bool, busy: Option<Busy>) -> Self {
        Self { size: body.size(), body: Some(body).filter(|_| !is_head), _busy: busy }
    }
}

impl MessageBody for BusyBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

/// What a request must pass before its route is looked for.
fn check(state: &State, request: &ServiceRequest, id: &str) -> Result<(), ApiError> {
    state.hosts.check(request.request())?;
    cross_origin::check(request.request())?;
    auth::admit(state, request, id)
}

/// The caller's own id where it is harmless in a log, else a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless);
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// Writes the body of every refusal, ours and the framework's own.
fn as_problem(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let ours = response.response().error().and_then(|error| error.as_error::<ApiError>()).cloned();
    let problem = ours.unwrap_or_else(|| {
        let (code, detail) = match response.status().as_u16() {
            404 => (Code::UnknownRoute, "there is nothing at this path"),
            413 => (Code::BodyTooLarge, "the body is too large"),
            400..=499 => (Code::BadRequest, "the request could not be read"),
            _ => (Code::Internal, "the server failed"),
        };
        ApiError::new(code, detail)
    });
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, problem.respond(id))
}

fn add_headers(headers: &mut HeaderMap, id: &str, docs: bool) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    let policy = if docs { DOCS_POLICY } else { API_POLICY };
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    for (name, value) in fixed {
        // A handler that knows better has set its own.
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// One line for each request. The method is the caller's own text and is escaped; the path is not written at all.
fn record(state: &State, response: &ServiceResponse<BoxBody>, id: &str, started: Instant) {
    let request = response.request();
    let route = request.match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status().as_u16();
    state.app.metrics.answered(&route, status);
    let ms = started.elapsed().as_millis();
    info!(method = ?request.method().as_str(), route, status, ms, request_id = id, "answered");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn nothing_is_made_of_a_body_that_nobody_gets() {
        for is_head in [false, true] {
            let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counted = Arc::clone(&made);
            let pieces = futures::stream::repeat_with(move || {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
            });
            let body = actix_web::body::SizedStream::new(3, futures::StreamExt::take(pieces, 3));
            let body = BusyBody::new(BoxBody::new(body), is_head, None);
            assert_eq!(body.size(), BodySize::Sized(3));
            let sent = actix_web::body::to_bytes(body).await.unwrap();
            let expected = if is_head { 0 } else { 3 };
            assert_eq!((sent.len(), made.load(std::sync::atomic::Ordering::SeqCst)), (expected, expected));
        }
    }

    #[test]
    fn only_harmless_request_ids_are_taken_over() {
        let id = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        assert_eq!(id("trace-1.b_C"), "trace-1.b_C");
        let long: &'static str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        for bad in ["", "a b", "a\tb", "a\"b", "a{b}", long] {
            let fresh = id(bad);
            assert!(fresh != bad && Uuid::parse_str(&fresh).is_ok(), "{bad:?} gave {fresh:?}");
        }
    }
}
