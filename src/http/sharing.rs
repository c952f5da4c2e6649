//! How many workers one tenant may have: all of them while one tenant holds keys, one fewer once several do, so that who
//! floods the server with long programs keeps nobody else waiting.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::server::App;

/// How long the number of tenants is believed.
const FRESH: Duration = Duration::from_secs(1);

/// When that was last looked at.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<Option<Instant>>);

impl Sharing {
    /// Looks who holds keys, where that was not done just now.
    pub(super) fn refresh(&self, app: &App) {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return;
        }
        *looked = Some(Instant::now());
        match app.keys.tenants() {
            Ok(tenants) => app.service.set_tenant_concurrency(app.config.tenant_concurrency(tenants)),
            Err(error) => warn!(%error, "the tenants can't be counted; their shares stay"),
        }
    }
}
