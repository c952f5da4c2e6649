//! The application and its one HTTP server.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;

use crate::config::Config;
use crate::execution::preparation::Preparation;
use crate::execution::service::{FinishHook, Service};
use crate::http;
use crate::runtime::Catalogue;
use crate::store::Keys;
use crate::telemetry::Metrics;

/// Everything the routes need. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Owns the executions.
    pub service: Service,
    /// The languages on offer.
    pub catalogue: Arc<Catalogue>,
    /// The settings.
    pub config: Arc<Config>,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// Counters for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Images that are built while the server starts.
    pub preparation: Arc<Preparation>,
}

/// Counts finished executions; goes into [`Service::start`].
#[must_use]
pub fn count_finished(metrics: &Arc<Metrics>) -> FinishHook {
    let metrics = Arc::clone(metrics);
    Box::new(move |execution| metrics.on_finish(execution))
}

/// Serves until `shutdown` resolves, then drains the service and closes.
///
/// While it drains, new executions are answered 503, results can still be read, and callers that wait for one get
/// it. This calls [`Service::drain`] itself, with the grace of the settings.
///
/// # Errors
/// The listener fails.
pub async fn run(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (service, config) = (app.service.clone(), Arc::clone(&app.config));
    let (preparation, sandboxes) = (Arc::clone(&app.preparation), service.clone());
    let server = http::serve(listener, http::State::new(app))?;
    let preparing = tokio::spawn(async move { preparation.run(sandboxes.sandbox()).await });
    let handle = server.handle();
    let stop = async {
        shutdown.await;
        preparing.abort();
        service.drain(config.drain()).await;
        handle.stop(true).await;
    };
    let mut server = pin!(server);
    tokio::select! {
        ended = &mut server => ended,
        () = stop => server.await,
    }
}
