//! Whether the server lives, whether it can take work, and its counters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::execution::preparation::Stage;
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, Code, Problems};
use crate::sandbox::Sandbox;
use crate::store::{Scope, check_room};

/// How long an answer about the sandbox is believed: one question a second, however many requests there are.
const FRESH: Duration = Duration::from_secs(1);
/// A sandbox that takes longer to answer is not ready; callers are promised their 503 within a second.
const DEADLINE: Duration = Duration::from_millis(800);

/// The server lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
    /// Of the server.
    version: &'static str,
    /// Executions that wait.
    queued: usize,
    /// Executions that run.
    running: usize,
    /// The images that the server prepares (`--prepare`), and how far each is: `waiting`, `building`, `ready` or `failed`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    images: BTreeMap<String, Stage>,
}

impl Health {
    fn new(state: &State) -> Self {
        let load = state.app.service.load();
        Self {
            status: "ok",
            version: env!("CARGO_PKG_VERSION"),
            queued: load.queued,
            running: load.running,
            images: BTreeMap::new(),
        }
    }
}

/// The last answer of the sandbox.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// Refuses while the sandbox can start nothing. Concurrent callers share one question.
    pub(super) async fn check(&self, sandbox: &dyn Sandbox) -> Result<(), ApiError> {
        let mut last = self.last.lock().await;
        let known = last.filter(|(asked, _)| asked.elapsed() < FRESH).map(|(_, ready)| ready);
        let ready = match known {
            Some(ready) => ready,
            None => ask(sandbox).await,
        };
        if known.is_none() {
            *last = Some((Instant::now(), ready));
        }
        if ready {
            return Ok(());
        }
        Err(ApiError::new(Code::NotReady, "the container engine does not answer; try again later"))
    }
}

/// The sandbox's own words are for the operator: they name sockets and paths.
async fn ask(sandbox: &dyn Sandbox) -> bool {
    match tokio::time::timeout(DEADLINE, sandbox.ready()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the sandbox is not ready");
            false
        }
        Err(_) => {
            tracing::warn!("the sandbox does not answer");
            false
        }
    }
}

/// The server lives.
#[utoipa::path(
    get, path = "/health", tag = "server", security(()),
    responses(
        (status = 200, description = "Yes", body = Health),
        Problems,
    )
)]
pub(super) async fn health(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(Health::new(&state))
}

/// The server takes work: the engine answers, the data folder can be written, and it is not shutting down.
#[utoipa::path(
    get, path = "/readyz", tag = "server", security(()),
    responses(
        (status = 200, description = "Yes", body = Health),
        Problems,
    )
)]
pub(super) async fn ready(state: Data<State>) -> Result<HttpResponse, ApiError> {
    state.refuse_unready().await?;
    let spool = state.app.service.spool_dir();
    let written = web::block(move || check_room(&spool)).await;
    written.map_err(|error| ApiError::internal(&error))?.map_err(|error| ApiError::storage(&error))?;
    Ok(HttpResponse::Ok().json(Health { images: state.app.preparation.progress(), ..Health::new(&state) }))
}

/// Counters and gauges, as OpenMetrics text. A key needs the scope `admin`.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses(
        (status = 200, description = "The text", body = String, content_type = "application/openmetrics-text"),
        Problems,
    )
)]
pub(super) async fn metrics(caller: Caller, state: Data<State>) -> Result<HttpResponse, ApiError> {
    caller.tenant(Scope::Admin)?;
    let load = state.app.service.load();
    let text = state.app.metrics.text(load.queued, load.running, load.kept);
    let text = text.map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(text))
}
