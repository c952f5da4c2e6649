//! One container: created, attached, started; removed when it is dropped, whatever happened.

use std::pin::Pin;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::ContainerCreateBody;
use futures::Stream;
use tokio::io::AsyncWrite;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::sandbox::docker::engine::{Engine, EngineError};

/// Frames from the runner, and its standard error.
pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
/// Frames to the runner.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A container that goes when this is dropped. The removal runs off the caller's path, on `removals`.
pub(super) struct Container {
    engine: Engine,
    pub(super) id: String,
    removals: TaskTracker,
}

impl Container {
    /// Creates it.
    pub(super) async fn create(
        engine: &Engine,
        removals: &TaskTracker,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Self, EngineError> {
        let id = engine.create(name, body).await?;
        Ok(Self { engine: engine.clone(), id, removals: removals.clone() })
    }

    /// Attaches, then starts: the other way round loses output.
    pub(super) async fn start(&self) -> Result<(Input, Output), EngineError> {
        let AttachContainerResults { output, input } = self.engine.attach(&self.id).await?;
        self.engine.start(&self.id).await?;
        Ok((input, output))
    }

    /// Kills its processes. One that is gone already is fine.
    pub(super) async fn kill(&self) {
        if let Err(error) = self.engine.kill(&self.id).await {
            warn!(%error, "the container could not be killed; it is removed next");
        }
    }

    /// Whether the kernel killed a process of it for want of memory. A hint: the Engine's versions differ in it.
    pub(super) async fn oom_killed(&self) -> bool {
        let state = self.engine.inspect(&self.id).await.ok().and_then(|inspected| inspected.state);
        state.and_then(|state| state.oom_killed).unwrap_or(false)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
        self.removals.spawn(async move {
            if let Err(error) = engine.remove(&id).await {
                warn!(container = %id, %error, "a container could not be removed; the next start removes it");
            }
        });
    }
}
