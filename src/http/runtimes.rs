//! The languages on offer, and what an execution may use.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use futures::future::join_all;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::State;
use crate::http::auth::Caller;
use crate::http::error::Problems;
use crate::limits::{KIB, LimitPolicy, Limits, MIB};
use crate::runtime::{Feature, Runtime};
use crate::sandbox::WantedImages;
use crate::server::App;

/// An Engine that takes longer to tell whether an image exists is taken for a no.
const IMAGE_DEADLINE: Duration = Duration::from_secs(2);

/// What this server runs, and with which limits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RuntimeList {
    runtimes: Vec<RuntimeItem>,
    limits: LimitTable,
}

/// A language at a version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RuntimeItem {
    #[schema(example = "python")]
    name: String,
    #[schema(example = "3.13")]
    version: String,
    aliases: Vec<String>,
    /// Without the dot.
    extensions: Vec<String>,
    /// Its image exists; otherwise the first execution waits for it to be built.
    ready: bool,
    /// Notable packages in the image.
    packages: Vec<String>,
    /// Fields of a request that not every language can serve, and this one can.
    #[schema(example = json!(["script", "call", "eval_last_expr", "capture_plots"]))]
    features: Vec<&'static str>,
}

/// Defaults and ceilings in the units of the `config` fields, and the caps on a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitTable {
    default: ExecLimits,
    ceiling: ExecLimits,
    request: RequestLimits,
}

/// Limits of one execution.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecLimits {
    timeout_seconds: f64,
    compile_timeout_seconds: f64,
    memory_mb: u64,
    disk_mb: u64,
    disk_inodes: u64,
    cpus: f64,
    pids: u64,
    output_kb: u64,
    artifact_mb: u64,
    artifact_count: u64,
}

/// Caps on what one request carries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestLimits {
    /// Unpacked.
    archive_mb: u64,
    archive_entries: u64,
    archive_depth: usize,
    json_kb: u64,
    eval_code_kb: u64,
    /// `parameters` and `input_data` together.
    input_kb: u64,
    /// Executions that may wait.
    queue_length: usize,
    /// How many of them may be one tenant's.
    tenant_queue_length: usize,
    /// Executions of one tenant that run at once.
    tenant_concurrency: usize,
}

/// The languages on offer, and what an execution may use.
#[utoipa::path(
    get, path = "/api/v1/runtimes", operation_id = "list_runtimes", tag = "server",
    responses(
        (status = 200, description = "The list", body = RuntimeList),
        Problems,
    )
)]
pub(super) async fn list(caller: Caller, state: Data<State>) -> HttpResponse {
    let runtimes = join_all(state.app.catalogue.runtimes().iter().map(|runtime| item(runtime, &state))).await;
    let policy = caller.narrow(state.app.config.limit_policy());
    HttpResponse::Ok().json(RuntimeList { runtimes, limits: LimitTable::new(&state.app, &policy) })
}

async fn item(runtime: &Arc<Runtime>, state: &State) -> RuntimeItem {
    let wanted = WantedImages { runtime, own: None, installer: false };
    let ready = tokio::time::timeout(IMAGE_DEADLINE, state.app.service.sandbox().images_ready(wanted));
    let features = Feature::ALL.into_iter().filter(|feature| feature.is_in(runtime));
    RuntimeItem {
        name: runtime.name.clone(),
        version: runtime.version.clone(),
        aliases: runtime.aliases.clone(),
        extensions: runtime.extensions.clone(),
        ready: ready.await.unwrap_or(false),
        packages: runtime.packages.clone(),
        features: features.map(Feature::field).collect(),
    }
}

impl LimitTable {
    fn new(app: &App, policy: &LimitPolicy) -> Self {
        let (config, request) = (&app.config, &app.config.request);
        Self {
            default: ExecLimits::from(policy.default),
            ceiling: ExecLimits::from(policy.ceiling),
            request: RequestLimits {
                archive_mb: request.archive_mb,
                archive_entries: request.archive_entries,
                archive_depth: request.archive_depth,
                json_kb: request.json_kb,
                eval_code_kb: request.eval_code_kb,
                input_kb: request.input_kb,
                queue_length: config.queue_length,
                tenant_queue_length: config.tenant_queue_length(),
                tenant_concurrency: app.service.tenant_concurrency(),
            },
        }
    }
}

impl From<Limits> for ExecLimits {
    fn from(limits: Limits) -> Self {
        Self {
            timeout_seconds: thousandths(limits.timeout_ms),
            compile_timeout_seconds: thousandths(limits.compile_timeout_ms),
            memory_mb: limits.memory_bytes / MIB,
            disk_mb: limits.disk_bytes / MIB,
            disk_inodes: limits.disk_inodes,
            cpus: thousandths(limits.cpu_millis),
            pids: limits.pids,
            output_kb: limits.output_bytes / KIB,
            artifact_mb: limits.artifact_bytes / MIB,
            artifact_count: limits.artifact_count,
        }
    }
}

/// Exact for every number below 2^53; limits are far below.
#[allow(clippy::cast_precision_loss)]
fn thousandths(value: u64) -> f64 {
    value as f64 / 1000.0
}
