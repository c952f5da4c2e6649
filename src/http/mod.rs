//! HTTP: routes, extractors, wire types, errors, OpenAPI. The only place that knows the web framework.
//!
//! Every request goes the same way: `listener.rs` puts its connection under the deadlines of `stream.rs`, `edge.rs` gives it an id and checks its host, `auth.rs` its key, a handler of one
//! of the resource files reads it, and every refusal becomes a problem by the one table in [`error`].

mod artifacts;
mod auth;
mod body;
mod connections;
mod cross_origin;
mod docs;
mod edge;
pub mod error;
mod execute;
mod executions;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod hosts;
mod idempotency;
mod image;
mod listener;
mod mime;
mod multipart;
mod pace;
mod rate;
mod request;
mod result;
mod result_stream;
mod runtimes;
mod shape;
mod sharing;
mod stream;
mod submission;
mod text;

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route, guard};
use tokio::sync::Semaphore;

pub use docs::openapi_json;
pub use listener::serve;

use crate::execution::id::Tenant;
use crate::http::auth::Door;
use crate::http::error::{ApiError, Code};
use crate::http::health::Readiness;
use crate::http::hosts::Hosts;
use crate::http::rate::Rates;
use crate::http::sharing::Sharing;
use crate::http::text::{Caps, WRITES};
use crate::limits::KIB;
use crate::server::App;

/// What the web framework may log unless the operator says otherwise; its own start is nobody's news.
pub const LOG_FILTER: &str = "actix_server=warn";

/// Every route of the server.
fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/api/v1/exec/sync", "POST").route(web::post().to(execute::sync)))
        .service(resource("/api/v1/exec/async", "POST").route(web::post().to(execute::asynchronous)))
        .service(resource("/api/v1/eval", "POST").route(web::post().to(execute::eval)))
        .service(
            resource("/api/v1/executions/{id}", "GET, HEAD, DELETE")
                .route(reads().to(executions::get))
                .route(web::delete().to(executions::kill)),
        )
        .service(
            resource("/api/v1/executions/{id}/artifacts", "GET, HEAD").route(reads().to(artifacts::list)),
        )
        .service(
            resource("/api/v1/executions/{id}/artifacts.tar", "GET, HEAD").route(reads().to(artifacts::all)),
        )
        .service(
            resource("/api/v1/executions/{id}/artifacts/{path:.*}", "GET, HEAD")
                .route(reads().to(artifacts::one)),
        )
        .service(resource("/api/v1/runtimes", "GET, HEAD").route(reads().to(runtimes::list)))
        .service(resource("/health", "GET, HEAD").route(reads().to(health::health)))
        .service(resource("/healthz", "GET, HEAD").route(reads().to(health::health)))
        .service(resource("/readyz", "GET, HEAD").route(reads().to(health::ready)))
        .service(resource("/metrics", "GET, HEAD").route(reads().to(health::metrics)))
        .service(resource("/openapi.json", "GET, HEAD").route(reads().to(docs::openapi)))
        .service(resource("/docs", "GET, HEAD").route(reads().to(docs::redirect)))
        .service(resource("/docs/{path:.*}", "GET, HEAD").route(reads().to(docs::page)))
        .default_service(web::to(unknown_route));
}

/// A route that reads. HEAD has the same answer, whose body the web framework leaves out.
fn reads() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A resource that answers other methods with 405 and the ones it has.
fn resource(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let refusal = ApiError::new(Code::MethodNotAllowed, format!("this route takes {methods}"));
        Err::<HttpResponse, _>(ApiError { allow: Some(methods), ..refusal })
    }))
}

async fn unknown_route() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(Code::UnknownRoute, "there is no such route; /docs/ lists them"))
}

/// What the routes share.
pub struct State {
    app: App,
    /// For texts that are written to files.
    writes: Arc<Semaphore>,
    readiness: Readiness,
    hosts: Hosts,
    door: Door,
    sharing: Sharing,
    rates: Rates,
}

impl State {
    /// For one server, whatever the number of its threads.
    #[must_use]
    pub fn new(app: App) -> Arc<Self> {
        let sharing = Sharing::new(&app);
        let hosts = Hosts::new(app.config.listen.ip(), &app.config.allowed_hosts);
        let (readiness, door, rates) = Default::default();
        let writes = Arc::new(Semaphore::new(WRITES));
        Arc::new(Self { app, writes, readiness, hosts, door, sharing, rates })
    }

    /// Where a request of this tenant goes, and what it may take.
    fn caps(&self, tenant: &Tenant) -> Caps {
        let (service, config) = (&self.app.service, &self.app.config);
        Caps {
            spool: service.spool_dir(),
            archive: config.archive_limits(),
            metadata: usize::try_from(config.request.json_kb * KIB).unwrap_or(usize::MAX),
            memory: self.sharing.memory.clone(),
            tenant: tenant.clone(),
            writes: Arc::clone(&self.writes),
        }
    }

    /// New work is refused while it could not run, before its body is read.
    async fn refuse_unready(&self) -> Result<(), ApiError> {
        if self.app.service.is_draining() {
            return Err(ApiError::new(
                Code::Draining,
                "the server is shutting down and takes no new executions",
            ));
        }
        self.app.service.check_disk()?;
        self.readiness.check(self.app.service.sandbox()).await
    }
}

/// The application with all its routes, for one thread of the server.
fn application(
    state: Arc<State>,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    actix_web::App::new()
        .app_data(Data::from(state))
        .wrap(actix_web::middleware::from_fn(edge::edge))
        .configure(routes)
}
