//! The three routes that run something. All go the same way: read, check, submit; sync ones then wait.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::{self, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tokio::sync::SemaphorePermit;
use utoipa::ToSchema;

use crate::archive::Project;
use crate::execution::id::ExecutionId;
use crate::execution::intake::{self, InstallPolicy, RequestedDependencies, Submission};
use crate::execution::service::Mode;
use crate::execution::spec::ExecutionSpec;
use crate::failpoint;
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::body::{self, Body, Kind};
use crate::http::error::{ApiError, Code, Problems};
use crate::http::idempotency;
use crate::http::multipart::{self, Caps};
use crate::http::request::{ExecRequest, parse};
use crate::http::result::ExecResult;
use crate::http::result_stream;
use crate::http::submission::Inline;
use crate::limits::KIB;
use crate::runtime::Catalogue;
use crate::store::Scope;

/// What multipart framing and the metadata may add to an archive, beside their own cap.
const FRAMING: u64 = 64 << 10;
/// A body that is announced to be at most this long needs no upload permit.
const SMALL: u64 = 64 << 10;

/// The answer of `exec/async`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Names the execution in the other routes.
    #[schema(example = "exe_550e8400-e29b-41d4-a716-446655440000")]
    execution_id: String,
}

/// The parts of a multipart body.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used: the body is read as a stream")]
pub(super) struct Upload {
    /// A tar archive: plain, gzip or zstd, told apart by its first bytes.
    #[schema(value_type = String, format = Binary)]
    tar: Vec<u8>,
    /// JSON.
    metadata: Option<ExecRequest>,
}

/// Runs a project and waits for its end.
///
/// 200 also when the program failed: `status`, `reason` and `exit_code` tell. A caller that goes away does not stop
/// the execution; it can be read and killed by its id.
#[utoipa::path(
    post, path = "/api/v1/exec/sync", operation_id = "exec_sync", tag = "executions",
    request_body(content((Upload = "multipart/form-data"), (ExecRequest = "application/json"))),
    responses(
        (status = 200, description = "The result, whatever the program did", body = ExecResult),
        Problems,
    )
)]
pub(super) async fn sync(
    request: HttpRequest,
    payload: Payload,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    caller.tenant(Scope::Run)?;
    let (wire, project) = read(&request, payload, &state, &[Kind::Multipart, Kind::Json], None).await?;
    let id = submit(&request, &state, &caller, wire, project, Mode::Sync).await?;
    wait(&state, &caller, id).await
}

/// Runs a project; the answer comes at once, with the id to ask for the result.
#[utoipa::path(
    post, path = "/api/v1/exec/async", operation_id = "exec_async", tag = "executions",
    request_body(content((Upload = "multipart/form-data"), (ExecRequest = "application/json"))),
    responses(
        (status = 202, description = "Accepted", body = Accepted, headers(("Location" = String, description = "Where the result will be"))),
        Problems,
    )
)]
pub(super) async fn asynchronous(
    request: HttpRequest,
    payload: Payload,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    caller.tenant(Scope::Run)?;
    let (wire, project) = read(&request, payload, &state, &[Kind::Multipart, Kind::Json], None).await?;
    let id = submit(&request, &state, &caller, wire, project, Mode::Async).await?.to_string();
    failpoint::pass("answer.async");
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("/api/v1/executions/{id}")))
        .json(Accepted { execution_id: id }))
}

/// Runs a few lines of code, Python by default, and waits for the end.
#[utoipa::path(
    post, path = "/api/v1/eval", tag = "executions",
    request_body = ExecRequest,
    responses(
        (status = 200, description = "The result, whatever the program did", body = ExecResult),
        Problems,
    )
)]
pub(super) async fn eval(
    request: HttpRequest,
    payload: Payload,
    caller: Caller,
    state: Data<State>,
) -> Result<HttpResponse, ApiError> {
    caller.tenant(Scope::Run)?;
    let cap = state.app.config.request.eval_code_kb * KIB;
    let (wire, project) = read(&request, payload, &state, &[Kind::Json], Some(cap)).await?;
    let id = submit(&request, &state, &caller, wire, project, Mode::Sync).await?;
    wait(&state, &caller, id).await
}

/// Reads the body. What can be refused without reading it is refused first.
async fn read(
    request: &HttpRequest,
    payload: Payload,
    state: &State,
    kinds: &[Kind],
    code_cap: Option<u64>,
) -> Result<(ExecRequest, Project), ApiError> {
    let kind = body::kind(request, kinds)?;
    body::refuse_encoded(request)?;
    idempotency::key(request)?;
    let config = &state.app.config.request;
    let json_cap = config.json_kb * KIB;
    let cap = match kind {
        Kind::Json => json_cap,
        Kind::Multipart => state.app.config.archive_limits().bytes.saturating_add(json_cap + FRAMING),
    };
    body::refuse_long(request, cap)?;
    state.refuse_unready().await?;
    let _permit = permit(request, state)?;
    let stream = Body::new(payload.into_inner(), config, cap, Arc::clone(&state.app.metrics));
    let caps = Caps {
        spool: state.app.service.spool_dir(),
        archive: state.app.config.archive_limits(),
        metadata: usize::try_from(json_cap).unwrap_or(usize::MAX),
    };
    match kind {
        Kind::Json => read_json(stream, &state.app.catalogue, caps, code_cap).await,
        Kind::Multipart => multipart::read(request.headers(), stream, &caps).await,
    }
}

/// Bounds what all bodies together hold in memory and on disk while they come.
fn permit<'a>(request: &HttpRequest, state: &'a State) -> Result<Option<SemaphorePermit<'a>>, ApiError> {
    if body::content_length(request).is_some_and(|length| length <= SMALL) {
        return Ok(None);
    }
    state.uploads.try_acquire().map(Some).map_err(|_| {
        let count = state.app.config.request.uploads;
        ApiError::new(
            Code::TooManyUploads,
            format!("{count} uploads are being read already; try again later"),
        )
    })
}

pub(super) async fn read_json(
    stream: Body,
    catalogue: &Catalogue,
    caps: Caps,
    code_cap: Option<u64>,
) -> Result<(ExecRequest, Project), ApiError> {
    let bytes = stream.collect().await?;
    let inline = Inline::new(parse(&bytes)?, catalogue)?;
    drop(bytes);
    if let Some(cap) = code_cap.filter(|cap| inline.bytes() as u64 > *cap) {
        let detail = format!(
            "the code has {} bytes; eval takes at most {cap}: send a tar archive to /api/v1/exec/sync",
            inline.bytes()
        );
        return Err(ApiError::new(Code::CodeTooLarge, detail));
    }
    inline.write(caps.spool, caps.archive).await
}

async fn submit(
    request: &HttpRequest,
    state: &State,
    caller: &Caller,
    mut wire: ExecRequest,
    project: Project,
    mode: Mode,
) -> Result<ExecutionId, ApiError> {
    let app = &state.app;
    let dependencies = wire.take_dependencies();
    let image = wire.docker_image.take().filter(|image| !image.is_empty());
    let helped = wire.helped();
    let spec = accept(state, caller, wire.into_submission(project)?).await?;
    let spec = match image {
        None => spec,
        Some(_) if dependencies != RequestedDependencies::default() => {
            let detail =
                "docker_image: nothing is installed beside an image of your own; put it into the image";
            return Err(ApiError::new(Code::NotSupported, detail));
        }
        Some(image) => intake::use_image(spec, &image, helped, &app.config.containers.allow_image)?,
    };
    let spec = with_dependencies(spec, dependencies, app.config.install_policy()).await?;
    let spec = ExecutionSpec { share: caller.share(), ..spec };
    let (key, spec) = match idempotency::key(request)? {
        None => (None, spec),
        Some(key) => {
            let (key, spec) = idempotency::named(key, spec).await?;
            (Some(key), spec)
        }
    };
    let id = state.app.service.submit(spec, mode, key).await?.id;
    caller.audit("run", id, true);
    Ok(id)
}

/// Checks it, on a thread of its own where files of the project are to be read.
async fn accept(
    state: &State,
    caller: &Caller,
    mut submission: Submission,
) -> Result<ExecutionSpec, ApiError> {
    let tenant = caller.tenant(Scope::Run)?;
    let policy = caller.narrow(state.app.config.limit_policy());
    submission.lint = submission.lint.max(caller.lint());
    if !submission.is_read(&state.app.catalogue) {
        return Ok(intake::accept(&state.app.catalogue, &policy, tenant, submission)?);
    }
    let (catalogue, tenant) = (Arc::clone(&state.app.catalogue), tenant.clone());
    let checked = web::block(move || intake::accept(&catalogue, &policy, &tenant, submission));
    Ok(checked.await.map_err(|error| ApiError::internal(&error))??)
}

/// On a thread of its own where the project has to be read for it.
async fn with_dependencies(
    spec: ExecutionSpec,
    requested: RequestedDependencies,
    policy: InstallPolicy,
) -> Result<ExecutionSpec, ApiError> {
    if requested == RequestedDependencies::default() {
        return Ok(spec);
    }
    let adding = web::block(move || intake::add_dependencies(spec, requested, policy));
    Ok(adding.await.map_err(|error| ApiError::internal(&error))??)
}

async fn wait(state: &State, caller: &Caller, id: ExecutionId) -> Result<HttpResponse, ApiError> {
    // Only a purge in between takes it away. Its own answer belongs to the run, so no other scope is needed.
    let found = state.app.service.wait(caller.tenant(Scope::Run)?, id, None).await?;
    let execution = found.ok_or_else(ApiError::no_execution)?;
    if !execution.status.is_terminal() {
        // An async one that this request named by its idempotency key: the next server finishes it.
        return Err(ApiError::new(Code::Draining, "the server is shutting down; ask again in a moment"));
    }
    failpoint::pass("answer.sync");
    result_stream::respond(&execution)
}
