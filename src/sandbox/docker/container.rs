//! One container: created, attached, started; removed when it is dropped, whatever happened.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::ContainerCreateBody;
use futures::Stream;
use tokio::io::AsyncWrite;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::sandbox::docker::engine::{ContainerUsage, Engine, EngineError};
use crate::sandbox::docker::profile::{self, Class};
use crate::sandbox::docker::uids::Uid;
use crate::sandbox::docker::workspace_volume;
use crate::sandbox::{SandboxError, Slot};

/// Tries of a removal that is not known to be needed: the creation of the container was not confirmed. The time in which
/// the Engine is away does not count.
const REMOVALS: u32 = 6;
/// Before the second try; each later one waits twice as long, up to [`MOST_PATIENCE`].
const REMOVE_AGAIN: Duration = Duration::from_millis(300);
/// Longest wait between two tries of a removal: a container that the Engine can't remove now is looked at twice a minute.
const MOST_PATIENCE: Duration = Duration::from_secs(30);
/// An Engine that takes longer to say how a container is stood still, and its container perhaps with it.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// What a container that SIGKILL ended exits with.
const BY_SIGKILL: i64 = 137;
/// Looks at a container whose stream ended, until it has ended, too.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Frames from the runner, and its standard error.
pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
/// Frames to the runner.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A container that goes when this is dropped. The removal runs off the caller's path, on `removals`.
pub(super) struct Container {
    engine: Engine,
    /// Its name until the Engine has told its id.
    pub(super) id: String,
    /// The Engine has said that it is there.
    confirmed: bool,
    /// Nobody else's until it is gone.
    uid: Option<Uid>,
    /// Its own name, where it has a volume that goes with it.
    workspace: Option<String>,
    /// Set where the container did not end by itself: programs in it may still run.
    runaway: Option<Slot>,
    removals: TaskTracker,
}

impl Container {
    /// Creates it. One that we never heard of again, or did not wait for, may still come to be: it goes, too.
    pub(super) async fn create(
        engine: &Engine,
        removals: &TaskTracker,
        name: &str,
        uid: Option<Uid>,
        body: ContainerCreateBody,
    ) -> Result<Self, EngineError> {
        let mut container = Self {
            engine: engine.clone(),
            id: name.to_owned(),
            confirmed: false,
            uid,
            workspace: workspace_volume::is_in(&body).then(|| name.to_owned()),
            runaway: None,
            removals: removals.clone(),
        };
        container.id = engine.create(name, body).await?;
        container.confirmed = true;
        Ok(container)
    }

    /// Attaches, then starts: the other way round loses output.
    pub(super) async fn start(&self) -> Result<(Input, Output), EngineError> {
        let AttachContainerResults { output, input } = self.engine.attach(&self.id).await?;
        self.engine.start(&self.id).await?;
        Ok((input, output))
    }

    /// Gives it the limits of another class. The file systems in it stay as they are.
    pub(super) async fn change_limits(&self, class: &Class) -> Result<(), EngineError> {
        self.engine.update(&self.id, profile::limits_of(class)).await
    }

    /// Its user, where it has one of its own.
    pub(super) fn uid(&self) -> Option<u32> {
        self.uid.as_ref().map(|uid| uid.id)
    }

    /// Marks the container as one whose runner did not report an end: its processes are frozen and killed before the
    /// removal, and the slot stays taken until the Engine has removed the container.
    pub(super) fn run_away(&mut self, slot: Slot) {
        self.runaway = Some(slot);
    }

    /// Returns what the container has used so far; nothing where the Engine does not tell in time.
    pub(super) async fn usage(&self) -> ContainerUsage {
        self.engine.usage(&self.id).await.unwrap_or_else(|error| {
            warn!(%error, "the usage of a container could not be read");
            ContainerUsage::default()
        })
    }

    /// Whether the kernel ended the runner for want of memory. The Engine's own word for it says less: that some process
    /// was ended so at some time, and newer versions say it while the container still runs.
    pub(super) async fn runner_out_of_memory(&self) -> bool {
        for _ in 0..LOOKS {
            let Ok(inspected) = self.engine.inspect(&self.id).await else { return false };
            let Some(state) = inspected.state else { return false };
            if state.running != Some(true) {
                return state.oom_killed == Some(true) && state.exit_code == Some(BY_SIGKILL);
            }
            // The end of its stream may be heard of before its own.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        false
    }

    /// Whether its lateness is the program's doing. Called when its time is over without a word of the runner.
    ///
    /// # Errors
    /// It was paused from outside, or the Engine stood still or is away: then nothing is known of the program.
    pub(super) async fn ran_freely(&self) -> Result<(), SandboxError> {
        let asked = Instant::now();
        let state = self.engine.inspect(&self.id).await?.state;
        if state.and_then(|state| state.paused).unwrap_or(false) {
            return Err(SandboxError::Lost("it was paused from outside".into()));
        }
        if asked.elapsed() > STOOD_STILL {
            return Err(SandboxError::Lost("the Engine stood still".into()));
        }
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
        let (confirmed, uid, workspace) = (self.confirmed, self.uid.take(), self.workspace.take());
        let runaway = self.runaway.take();
        self.removals.spawn(async move {
            if runaway.is_some() {
                stop(&engine, &id).await;
            }
            remove(engine, id, confirmed, workspace).await;
            drop((uid, runaway));
        });
    }
}

/// Stops programs whose runner does not do it. The pause comes first: the kernel freezes every process at once, whereas a
/// kill reaches only the first process, which has to get processor time before the others end.
async fn stop(engine: &Engine, id: &str) {
    for stopped in [engine.pause(id).await, engine.kill(id).await] {
        match stopped {
            Ok(()) | Err(EngineError::NotFound { .. }) => {}
            Err(error) => debug!(%error, "a container could not be stopped; its removal kills it, too"),
        }
    }
}

/// Until it is gone for certain: one whose creation was not confirmed may turn up late.
async fn remove(engine: Engine, id: String, confirmed: bool, workspace: Option<String>) {
    for round in (0..).take_while(|round| confirmed || *round < REMOVALS) {
        engine.circuit.closed().await;
        let mut removed = engine.remove(&id).await;
        if matches!(removed, Ok(false))
            && let Some(name) = &workspace
        {
            // Whoever removed it may have left its volume.
            removed = workspace_volume::remove_of(&engine, name).await.map(|()| false);
        }
        if removed.as_ref().is_ok_and(|removed| *removed || confirmed) {
            return;
        }
        report_failure(&id, removed.err());
        let pause = REMOVE_AGAIN.saturating_mul(2_u32.saturating_pow(round));
        tokio::time::sleep(pause.min(MOST_PATIENCE)).await;
    }
}

/// What is left when this server ends, the next start removes.
fn report_failure(id: &str, error: Option<EngineError>) {
    if let Some(error) = error {
        warn!(container = %id, %error, "a container could not be removed yet");
    }
}
