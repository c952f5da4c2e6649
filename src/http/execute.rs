//! The three routes that run something. All go the same way: read, check, submit; sync ones then wait.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::{self, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use crate::archive::Project;
use crate::execution::budget::{Reserved, Use};
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::idempotency::IdempotencyKey;
use crate::execution::intake::{self, InstallPolicy, RequestedDependencies, Submission};
use crate::execution::service::{Mode, Submitted};
use crate::execution::spec::{ExecutionSpec, STDIN_IN_MEMORY};
use crate::failpoint;
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::body::{self, Body, Kind};
use crate::http::connections::Connection;
use crate::http::error::{ApiError, Code, Problems};
use crate::http::idempotency;
use crate::http::image;
use crate::http::multipart;
use crate::http::request::ExecRequest;
use crate::http::result::ExecResult;
use crate::http::result_stream;
use crate::http::submission::{self, Incoming};
use crate::limits::KIB;
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
    let incoming = read(&request, payload, &state, &caller, &[Kind::Multipart, Kind::Json], None).await?;
    Box::pin(run(&request, &state, &caller, incoming)).await
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
    let incoming = read(&request, payload, &state, &caller, &[Kind::Multipart, Kind::Json], None).await?;
    let (key, spec, held) = Box::pin(prepare(&request, &state, &caller, incoming)).await?;
    let id = submit(&state, &caller, spec, Mode::Async, key).await?.id.to_string();
    drop(held);
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
    let cap = state.app.config.request.eval_code_kb * KIB;
    let incoming = read(&request, payload, &state, &caller, &[Kind::Json], Some(cap)).await?;
    Box::pin(run(&request, &state, &caller, incoming)).await
}

/// Reads the body. What can be refused without reading it is refused first.
async fn read(
    request: &HttpRequest,
    payload: Payload,
    state: &State,
    caller: &Caller,
    kinds: &[Kind],
    code_cap: Option<u64>,
) -> Result<Incoming, ApiError> {
    let tenant = caller.tenant(Scope::Run)?;
    // From here on, so that nothing comes while this waits for anything else.
    let demand = request.conn_data::<Arc<Connection>>().map(Connection::on_demand);
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
    let _permit = permit(request, state, tenant)?;
    let stream = Body::new(payload.into_inner(), demand, config, cap, Arc::clone(&state.app.metrics));
    let caps = state.caps(tenant);
    // Boxed, as is what comes after the body: a caller who takes time to send it holds the state of one kind of body only.
    match kind {
        Kind::Json => Box::pin(submission::read_json(stream, &state.app.catalogue, &caps, code_cap)).await,
        Kind::Multipart => {
            let parts = Box::pin(multipart::read(request.headers(), stream, &caps)).await?;
            parts.request(&caps).await
        }
    }
}

/// Bounds what all bodies together hold on disk while they come.
fn permit(request: &HttpRequest, state: &State, tenant: &Tenant) -> Result<Option<Reserved>, ApiError> {
    if body::content_length(request).is_some_and(|length| length <= SMALL) {
        return Ok(None);
    }
    state.sharing.uploads.try_reserve(tenant, 1, Use::Reading).map(Some).ok_or_else(|| {
        let count = state.app.config.request.uploads;
        let detail = format!(
            "this server reads {count} uploads at once, and others or your share of them leave none; try again later"
        );
        ApiError::new(Code::TooManyUploads, detail)
    })
}

/// The execution that a request asks for, with its idempotency key and the memory that its body holds.
async fn prepare(
    request: &HttpRequest,
    state: &State,
    caller: &Caller,
    incoming: Incoming,
) -> Result<(Option<IdempotencyKey>, ExecutionSpec, Reserved), ApiError> {
    let app = &state.app;
    let Incoming { request: wire, project, held } = incoming;
    let (key, mut wire, project) = match idempotency::key(request)? {
        None => (None, wire, project),
        Some(key) => {
            let (key, wire, project) = idempotency::named(key, wire, project).await?;
            (Some(key), wire, project)
        }
    };
    let dependencies = wire.take_dependencies();
    let image = wire.docker_image.take().filter(|image| !image.is_empty());
    let helped = wire.helped();
    let spec = accept(state, caller, submission(state, wire, project).await?).await?;
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
    Ok((key, waiting(state, caller, spec)?, held))
}

async fn submit(
    state: &State,
    caller: &Caller,
    spec: ExecutionSpec,
    mode: Mode,
    key: Option<IdempotencyKey>,
) -> Result<Submitted, ApiError> {
    let submitted = state.app.service.submit(spec, mode, key).await?;
    caller.audit("run", submitted.id, true);
    Ok(submitted)
}

/// Runs an execution for a caller who waits for its result.
async fn run(
    request: &HttpRequest,
    state: &State,
    caller: &Caller,
    incoming: Incoming,
) -> Result<HttpResponse, ApiError> {
    let (key, spec, held) = prepare(request, state, caller, incoming).await?;
    let missing = image::missing(state, &spec).await?;
    let submitted = submit(state, caller, spec, Mode::Sync, key).await?;
    drop(held);
    let Some(missing) = missing else { return wait(state, caller, submitted.id).await };
    tokio::select! {
        biased;
        answer = wait(state, caller, submitted.id) => answer,
        error = missing.wait(state) => {
            // The caller has no id to ask for it, and sends the request again. One of an earlier request is not ours to end.
            if submitted.is_new() {
                state.app.service.purge(caller.tenant(Scope::Run)?, submitted.id).await?;
            }
            Err(error)
        }
    }
}

/// The spec as it waits: without what nobody needs any more, and with its part of the server's memory.
fn waiting(state: &State, caller: &Caller, mut spec: ExecutionSpec) -> Result<ExecutionSpec, ApiError> {
    spec.project.forget_entries();
    let (memory, bytes) = (&state.sharing.memory, spec.memory_bytes());
    let memory = memory.try_reserve(&spec.tenant, bytes.min(memory.most()), Use::Waiting).ok_or_else(|| {
        let detail = format!(
            "the executions that wait leave no memory for this one, which takes {bytes} bytes; try again later, or put \
             long arguments, variables and dependencies into files of the project"
        );
        ApiError::new(Code::QueueFull, detail)
    })?;
    Ok(ExecutionSpec { share: caller.share(), memory: Some(memory), ..spec })
}

/// What the execution layer checks. Long standard input goes to a file, on a thread of its own.
async fn submission(state: &State, wire: ExecRequest, project: Project) -> Result<Submission, ApiError> {
    let spool = state.app.service.spool_dir();
    if wire.stdin.as_ref().is_none_or(|stdin| stdin.len() <= STDIN_IN_MEMORY) {
        return wire.into_submission(project, &spool);
    }
    let made = web::block(move || wire.into_submission(project, &spool));
    made.await.map_err(|error| ApiError::internal(&error))?
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
