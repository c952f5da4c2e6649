//! The application and its one HTTP server.

use std::sync::Arc;

use crate::config::Config;
use crate::execution::service::Service;
use crate::runtime::Catalogue;
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
    /// Counters for `/metrics`.
    pub metrics: Arc<Metrics>,
}
