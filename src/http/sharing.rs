//! What one tenant may have at once: all of the workers, uploads and memory while one tenant holds keys; less once several
//! do, so that who floods the server with long programs or slow bodies keeps nobody else out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::execution::budget::Budget;
use crate::limits::MIB;
use crate::server::App;

/// How long the number of tenants is believed.
const FRESH: Duration = Duration::from_secs(1);

/// What tenants share, and when it was last looked at how many they are.
#[derive(Debug)]
pub(super) struct Sharing {
    looked: Mutex<Option<Instant>>,
    /// Large bodies that are read at once.
    pub(super) uploads: Budget,
    /// Bytes of memory for requests, from their first byte to the end of their execution.
    pub(super) memory: Budget,
}

impl Sharing {
    pub(super) fn new(app: &App) -> Self {
        let (request, metrics) = (&app.config.request, Arc::clone(&app.metrics));
        let memory = usize::try_from(request.body_memory_mb.saturating_mul(MIB)).unwrap_or(usize::MAX);
        Self {
            looked: Mutex::default(),
            uploads: Budget::new(request.uploads, |_| ()),
            memory: Budget::new(memory, move |held| metrics.body_memory(held)),
        }
    }

    /// Looks who holds keys, where that was not done just now.
    pub(super) fn refresh(&self, app: &App) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return;
        }
        *looked = Some(Instant::now());
        match app.keys.tenants() {
            Ok(tenants) => {
                app.service.set_tenant_concurrency(app.config.tenant_concurrency(tenants));
                self.uploads.set_shared(tenants > 1);
                self.memory.set_shared(tenants > 1);
            }
            Err(error) => warn!(%error, "the tenants can't be counted; their shares stay"),
        }
    }
}
