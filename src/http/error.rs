//! Errors on the wire: one table from code to status, and the `application/problem+json` body.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::archive::{ArchiveError, RefusalCode};
use crate::execution::intake::{AcceptError, IntakeError};
use crate::execution::service::{ReadError, SubmitError};
use crate::store::StoreError;

/// Makes the enum of codes and everything that is looked up in it, so that a code stands in one place.
macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal, $status:literal, $title:literal;)*) => {
        /// Every code that a problem can carry. The words are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The same for every problem of this code.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What it means, for the documentation.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc, )*),)* }
            }
        }
    };
}

codes! {
    /// The request breaks a rule that has no code of its own.
    BadRequest = "bad_request", 400, "Bad request";
    /// The JSON can't be read, or a field has the wrong type; `detail` names the field, line and column.
    BadJson = "bad_json", 400, "Bad JSON";
    /// A field that does not exist; `detail` names it.
    UnknownField = "unknown_field", 400, "Unknown field";
    /// A field has the right type and a value that can't be used.
    InvalidValue = "invalid_value", 400, "Invalid value";
    /// A query parameter that does not exist, or has a value that can't be used.
    BadQuery = "bad_query", 400, "Bad query";
    /// The `Idempotency-Key` header is no key.
    BadIdempotencyKey = "bad_idempotency_key", 400, "Bad idempotency key";
    /// The id in the path is no execution id.
    BadId = "bad_id", 400, "Bad execution id";
    /// The multipart body can't be read.
    BadMultipart = "bad_multipart", 400, "Bad multipart body";
    /// A part other than `tar` and `metadata`, or one of them twice.
    UnknownPart = "unknown_part", 400, "Unknown part";
    /// The `tar` part is missing.
    MissingPart = "missing_part", 400, "Missing part";
    /// A JSON body without `code` and without `files`.
    MissingCode = "missing_code", 400, "Nothing to run";
    /// A part of the interface that this server does not have, or that its operator has not switched on.
    NotSupported = "not_supported", 400, "Not supported";
    /// The `docker_image` is not on this server's allow-list.
    ImageNotAllowed = "image_not_allowed", 400, "Image not allowed";
    /// No runtime has this name, alias or version.
    UnknownLanguage = "unknown_language", 400, "Unknown language";
    /// The language is known, this version of it is not.
    UnknownVersion = "unknown_version", 400, "Unknown version";
    /// The files fit more than one language; name one.
    AmbiguousLanguage = "ambiguous_language", 400, "Ambiguous language";
    /// The language has no value of a last expression.
    EvalNotSupported = "eval_not_supported", 400, "No evaluation";
    /// The language has no script contract; `detail` names those that have.
    ScriptNotSupported = "script_not_supported", 400, "No script contract";
    /// No function of the language can be called; `detail` names those where that is so.
    CallNotSupported = "call_not_supported", 400, "No calls";
    /// The language has no plots to keep; `detail` names those that have.
    PlotsNotSupported = "plots_not_supported", 400, "No plots";
    /// The name of the function to call can be none.
    BadCall = "bad_call", 400, "Bad call";
    /// No file to run was named, and none was found.
    NoEntrypoint = "no_entrypoint", 400, "No entrypoint";
    /// A limit over the ceiling of this server or of the key; `detail` names both.
    LimitTooHigh = "limit_too_high", 400, "Limit too high";
    /// A limit too small to run anything.
    LimitTooLow = "limit_too_low", 400, "Limit too low";
    /// The project does not fit the workspace; `detail` names the field that raises it.
    ProjectTooLarge = "project_too_large", 400, "Project too large";
    /// Arguments that no program can be started with.
    BadArgs = "bad_args", 400, "Bad arguments";
    /// The command, with its arguments, variables and the project's file names, does not fit the runner's first message.
    CommandTooLong = "command_too_long", 400, "Command too long";
    /// Environment variables that no program can be started with.
    BadEnv = "bad_env", 400, "Bad environment";
    /// Labels over their caps.
    BadLabels = "bad_labels", 400, "Bad labels";
    /// Packages that can't be installed; `detail` names the line.
    BadDependencies = "bad_dependencies", 400, "Bad dependencies";
    /// Globs of artifacts that can't be read.
    BadArtifacts = "bad_artifacts", 400, "Bad artifact globs";
    /// The project's `execbox.toml` can't be read; `detail` names line and column.
    BadProjectFile = "bad_project_file", 400, "Bad execbox.toml";
    /// The key runs no program in whose sources the lint finds something; `detail` lists what and where.
    LintRefused = "lint_refused", 400, "Refused by the lint";
    /// A file name that leaves the workspace, or can't be one.
    BadPath = "bad_path", 400, "Bad path";
    /// The archive holds a link, a device or something else that is no file or folder.
    UnsupportedType = "unsupported_type", 400, "Unsupported entry type";
    /// An archive entry whose size two readers would understand differently.
    AmbiguousSize = "ambiguous_size", 400, "Ambiguous size";
    /// Not a tar archive, cut short, or followed by something.
    BadArchive = "bad_archive", 400, "Bad archive";
    /// Two files of one name, or a file where a folder is needed.
    DuplicateEntry = "duplicate_entry", 400, "Duplicate entry";
    /// No key, or one that is not valid; `/docs/` says how to send it.
    Unauthenticated = "unauthenticated", 401, "Unauthenticated";
    /// The key lacks the scope that this route needs; `detail` names it.
    Forbidden = "forbidden", 403, "Forbidden";
    /// A web page of another origin sent a request that changes something.
    CrossOrigin = "cross_origin", 403, "Cross-origin request";
    /// No such execution or artifact.
    NotFound = "not_found", 404, "Not found";
    /// No such route.
    UnknownRoute = "unknown_route", 404, "Unknown route";
    /// The route has other methods; `Allow` names them.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed";
    /// The body stalled, or came too slowly.
    SlowBody = "slow_body", 408, "Slow body";
    /// The body, or a part of it, is over its cap.
    BodyTooLarge = "body_too_large", 413, "Body too large";
    /// The code of an eval is over its cap.
    CodeTooLarge = "code_too_large", 413, "Code too large";
    /// Parameters and input data over their cap.
    InputTooLarge = "input_too_large", 413, "Input too large";
    /// The archive is over its cap on unpacked bytes.
    ArchiveTooLarge = "archive_too_large", 413, "Archive too large";
    /// The archive is over its cap on files and folders.
    TooManyEntries = "too_many_entries", 413, "Too many entries";
    /// A `Range` that the file does not have; `Content-Range` tells its size.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "Range not satisfiable";
    /// A content type, or a compression of the archive, that is not taken.
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type";
    /// A request body with a `Content-Encoding`.
    UnsupportedEncoding = "unsupported_encoding", 415, "Unsupported content encoding";
    /// The `Host` header names another server.
    BadHost = "bad_host", 421, "Misdirected request";
    /// The `Idempotency-Key` was used with another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, "Idempotency key reused";
    /// The key has sent as many requests as its rate allows; `Retry-After` says when to come again.
    RateLimited = "rate_limited", 429, "Rate limited";
    /// Every place in the queue is taken; `Retry-After` says when to come again.
    QueueFull = "queue_full", 429, "Queue full";
    /// As many uploads as are allowed are being read already, or requests take all the memory that there is for them;
    /// `Retry-After` says when to come again.
    TooManyUploads = "too_many_uploads", 429, "Too many uploads";
    /// We failed; the log has the details under the request id.
    Internal = "internal", 500, "Internal error";
    /// The container engine does not answer.
    NotReady = "not_ready", 503, "Not ready";
    /// The image of the language is being built, which takes longer than a caller waits (`--image-wait-seconds`); the build
    /// goes on, and `Retry-After` says when to come again.
    ImageNotReady = "image_not_ready", 503, "Image not ready";
    /// The server is shutting down.
    Draining = "draining", 503, "Shutting down";
    /// The server's disk is full or broken.
    StorageFailed = "storage_failed", 503, "Storage failed";
}

impl Code {
    /// The code of a word that another layer gives.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }
}

/// An answer that is a problem. The middleware adds the request's id and writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(super) struct ApiError {
    pub(super) code: Code,
    /// For the caller; nothing of the host is in it.
    pub(super) detail: String,
    pub(super) retry_after: Option<Duration>,
    /// Value of `Allow`, with 405.
    pub(super) allow: Option<&'static str>,
    /// Bytes of a file of which a part was asked for that it does not have.
    pub(super) size: Option<u64>,
}

/// What a caller is told when nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(2);

impl ApiError {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = matches!(code.status(), 429 | 503).then_some(RETRY_SOON);
        Self { code, detail: detail.into(), retry_after, allow: None, size: None }
    }

    /// The same answer for every id that is unknown here, so that it tells nothing.
    pub(super) fn no_execution() -> Self {
        Self::new(
            Code::NotFound,
            "there is no such execution here; finished ones are kept for a limited time",
        )
    }

    /// Our failure: the cause goes to the log, the caller gets a sentence.
    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed");
        Self::new(Code::Internal, "the server failed; its log has the details under this request id")
    }

    /// Our disk, in the same way.
    pub(super) fn storage(cause: &std::io::Error) -> Self {
        tracing::error!(error = %cause, "storage failed");
        Self::new(Code::StorageFailed, "the server could not store the upload; try again later")
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The whole answer.
    pub(super) fn respond(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        if let Some(delay) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, delay.as_secs().max(1).to_string()));
        }
        if let Some(methods) = self.allow {
            response.insert_header((header::ALLOW, methods));
        }
        if let Some(size) = self.size {
            response.insert_header((header::CONTENT_RANGE, format!("bytes */{size}")));
        }
        if self.code == Code::Unauthenticated {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"execbox\""));
        }
        let problem = Problem::new(self.code, &self.detail, request_id);
        response
            .content_type("application/problem+json")
            .body(serde_json::to_string(&problem).unwrap_or_default())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    /// Seen only where the middleware does not come by.
    fn error_response(&self) -> HttpResponse {
        self.respond("")
    }
}

/// The body of every answer from 400 up (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    /// Names the kind of problem: `/docs/#` and the code.
    #[serde(rename = "type")]
    #[schema(example = "/docs/#bad_json")]
    kind: String,
    /// The same for every problem of this code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what would be right.
    detail: &'a str,
    /// Stable word; see the table of codes.
    #[schema(example = "bad_json")]
    code: &'static str,
    /// The same as in the `X-Request-Id` header.
    request_id: &'a str,
    /// The same as `detail`, for clients of python-executor.
    error: &'a str,
}

/// What every operation may answer instead; the table of codes says when.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) enum Problems {
    /// The request can't be served as it is.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Refused(Problem<'static>),
    /// The server can't serve it now.
    #[response(status = "5XX", content_type = "application/problem+json")]
    Failed(Problem<'static>),
}

impl<'a> Problem<'a> {
    fn new(code: Code, detail: &'a str, request_id: &'a str) -> Self {
        Self {
            kind: format!("/docs/#{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail,
            code: code.as_str(),
            request_id,
            error: detail,
        }
    }
}

impl From<RefusalCode> for Code {
    fn from(refusal: RefusalCode) -> Self {
        match refusal {
            RefusalCode::BadPath => Self::BadPath,
            RefusalCode::UnsupportedType => Self::UnsupportedType,
            RefusalCode::AmbiguousSize => Self::AmbiguousSize,
            RefusalCode::BadArchive => Self::BadArchive,
            RefusalCode::DuplicateEntry => Self::DuplicateEntry,
            RefusalCode::TooLarge => Self::ArchiveTooLarge,
            RefusalCode::TooManyEntries => Self::TooManyEntries,
            RefusalCode::UnsupportedMediaType => Self::UnsupportedMediaType,
        }
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Refused { code, message } => Self::new(code.into(), message),
            ArchiveError::Spool(error) => Self::storage(&error),
        }
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        let code = Code::from_word(error.code).unwrap_or(Code::BadRequest);
        Self::new(code, error.message)
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Refused(error) => error.into(),
            AcceptError::Storage(error) => Self::storage(&error),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { retry_after, .. } | SubmitError::ShareFull { retry_after, .. } => {
                let refusal = Self::new(Code::QueueFull, format!("{error}; try again later"));
                Self { retry_after: Some(retry_after), ..refusal }
            }
            SubmitError::BacklogFull { retry_after, .. } => {
                let refusal = Self::new(Code::QueueFull, format!("{error}; try again later"));
                Self { retry_after: Some(retry_after), ..refusal }
            }
            SubmitError::DiskLow { free_mb, reserve_mb } => {
                tracing::warn!(
                    free_mb,
                    reserve_mb,
                    "the disk of the data folder is low; new work is refused"
                );
                Self::new(
                    Code::StorageFailed,
                    format!(
                        "the disk of this server is low ({free_mb} MiB left, {reserve_mb} MiB must stay free); \
                             purge executions, or try again later"
                    ),
                )
            }
            SubmitError::KeyReused => Self::new(Code::IdempotencyKeyReused, error.to_string()),
            SubmitError::Draining => Self::new(Code::Draining, error.to_string()),
            SubmitError::Storage(error) => {
                tracing::error!(%error, "storage failed");
                Self::new(Code::StorageFailed, "the server could not store the execution; try again later")
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "storage failed");
        Self::new(Code::StorageFailed, "the server could not read its records; try again later")
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Storage(error) => error.into(),
            ReadError::Unrecorded => Self::new(
                Code::StorageFailed,
                "the server can't store results at present; it keeps trying, and takes nothing new meanwhile",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_found_again() {
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.as_str()), Some(*code), "{code:?}");
            assert!(!code.meaning().is_empty() && !code.title().is_empty(), "{code:?}");
        }
    }

    #[test]
    fn refusals_keep_the_word_of_the_archive_reader() {
        for refusal in [RefusalCode::BadPath, RefusalCode::TooLarge, RefusalCode::UnsupportedMediaType] {
            assert_eq!(Code::from(refusal).as_str(), refusal.as_str());
        }
    }
}
