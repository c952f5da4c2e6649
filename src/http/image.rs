//! The wait of a sync caller for an image that is not built yet.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use crate::execution::spec::ExecutionSpec;
use crate::http::State;
use crate::http::error::{ApiError, Code};
use crate::runtime::Runtime;
use crate::sandbox::WantedImages;

/// When a caller may ask again: builds take from some seconds to minutes.
const RETRY: Duration = Duration::from_secs(10);
/// What it takes to ask the Engine whether an image is there, and to start a build for whom nobody waits.
const LOOK: Duration = Duration::from_millis(500);

/// Images that an execution needs, and that are not there.
pub(super) struct Missing {
    runtime: Arc<Runtime>,
    own: Option<String>,
    installer: bool,
}

/// Looks for the images of an execution: `None` where all are there.
///
/// # Errors
/// An image is missing, and the settings let no caller wait. Its build goes on.
pub(super) async fn missing(state: &State, spec: &ExecutionSpec) -> Result<Option<Missing>, ApiError> {
    let missing = Missing {
        runtime: Arc::clone(&spec.runtime),
        own: spec.image.clone(),
        installer: spec.dependencies.is_some(),
    };
    let sandbox = state.app.service.sandbox();
    // An Engine that does not answer is not waited for here: the execution waits for it.
    let ready = tokio::time::timeout(LOOK, sandbox.images_ready(missing.wanted())).await.unwrap_or(true);
    if ready {
        return Ok(None);
    }
    if state.app.config.images.wait().is_zero() {
        let built = tokio::time::timeout(LOOK, sandbox.ensure_images(missing.wanted(), &|_| ())).await;
        return if built.is_ok() { Ok(None) } else { Err(missing.not_ready(Duration::ZERO)) };
    }
    Ok(Some(missing))
}

impl Missing {
    fn wanted(&self) -> WantedImages<'_> {
        WantedImages { runtime: &self.runtime, own: self.own.as_deref(), installer: self.installer }
    }

    /// Ends with an error when the images take longer than a caller waits, and never otherwise. An image that can't be made is
    /// told by the execution, as with an async one.
    pub(super) async fn wait(&self, state: &State) -> ApiError {
        let patience = state.app.config.images.wait();
        let ensured = state.app.service.sandbox().ensure_images(self.wanted(), &|_| ());
        if tokio::time::timeout(patience, ensured).await.is_ok() {
            return pending().await;
        }
        self.not_ready(patience)
    }

    fn not_ready(&self, patience: Duration) -> ApiError {
        let detail = format!(
            "the image of {} is not built yet, which takes longer than the {} s that a caller waits here; the build goes on: \
             try again later, or send the request to /api/v1/exec/async, which waits in the queue",
            self.own.as_deref().unwrap_or(&self.runtime.name),
            patience.as_secs()
        );
        ApiError { retry_after: Some(RETRY), ..ApiError::new(Code::ImageNotReady, detail) }
    }
}
