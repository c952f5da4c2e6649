//! Docker behind the sandbox trait. The only place that knows the Engine's client library.

mod advisories;
mod base;
mod circuit;
mod container;
mod engine;
mod facts;
mod image;
mod incoming;
mod ownership;
mod probe;
mod profile;
mod report;
mod runner_volume;
mod session;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use facts::EngineFacts;
pub use probe::ProbeReport;

use crate::limits::Limits;
use crate::runner::message::{ArtifactSpec, PhaseSpec, Start};
use crate::runtime::Runtime;
use crate::sandbox::docker::container::{Container, Input, Output};
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::image::{BuildSettings, Image, Images};
use crate::sandbox::docker::ownership::Ownership;
use crate::sandbox::docker::profile::Identity;
use crate::sandbox::docker::runner_volume::Runner;
use crate::sandbox::docker::session::{Conversation, Ending};
use crate::sandbox::{BoxFuture, Events, Job, Report, Sandbox, SandboxError};

/// How the Engine is reached and used.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `unix:///...` or `tcp://...`; `None` takes the usual sockets.
    pub host: Option<String>,
    /// OCI runtime other than the Engine's default.
    pub oci_runtime: Option<String>,
    /// First user id of the slots.
    pub uid_base: u32,
    /// The binary that becomes PID 1; `None` takes the running one.
    pub runner: Option<PathBuf>,
    /// Names the data folder, so that a later server on it removes what an earlier one left.
    pub instance: String,
    /// CA bundle for image builds.
    pub ca_bundle: Option<PathBuf>,
    /// Debian mirror for image builds.
    pub debian_mirror: Option<String>,
    /// Proxy for image builds.
    pub build_proxy: Option<String>,
    /// Network of image builds.
    pub build_network: String,
    /// Cap on one build.
    pub build_timeout: Duration,
}

/// The Engine with our runner in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DockerSandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    images: Images,
    runner: Runner,
    /// The volume is there, as far as we know.
    runner_ready: AtomicBool,
    ownership: Ownership,
    /// Containers on their way out.
    removals: TaskTracker,
    uid_base: u32,
    oci_runtime: Option<String>,
}

/// The state of a runtime's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageState {
    /// Its tag: made from the runtime's name and a hash of what it is built from.
    pub tag: String,
    /// Its size in bytes, when it is built.
    pub size: Option<u64>,
}

/// What removals get at the end of a drain.
const CLOSE: Duration = Duration::from_secs(20);
/// The same with an Engine that is away: it may just be coming back.
const CLOSE_WHILE_AWAY: Duration = Duration::from_secs(1);

/// The running binary, even when another one has been installed over it since.
const THIS_BINARY: &str = "/proc/self/exe";

impl DockerSandbox {
    /// Finds the Engine, checks that it can hold what we promise, puts the runner's volume in place, and removes
    /// what an earlier server left.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub async fn connect(config: DockerConfig) -> Result<Self, SandboxError> {
        let engine = Engine::connect(config.host.as_deref()).await?;
        let facts = facts::read(&engine).await?;
        facts.require(config.oci_runtime.as_deref())?;
        warn_of_holes(&facts);
        let runner = Runner::read(config.runner.unwrap_or_else(|| PathBuf::from(THIS_BINARY))).await?;
        let settings = BuildSettings {
            ca_bundle: config.ca_bundle,
            debian_mirror: config.debian_mirror,
            proxy: config.build_proxy,
            network: config.build_network,
            timeout: config.build_timeout,
        };
        let sandbox = Self(Arc::new(Inner {
            images: Images::new(engine.clone(), settings),
            runner,
            runner_ready: AtomicBool::new(false),
            ownership: Ownership::of_this_process(config.instance),
            removals: TaskTracker::new(),
            uid_base: config.uid_base,
            oci_runtime: config.oci_runtime,
            engine,
        }));
        let inner = &sandbox.0;
        inner.ownership.remove_orphans(&inner.engine).await?;
        inner.ensure_runner().await?;
        Ok(sandbox)
    }

    /// Removes what earlier builds of this binary left: volumes with their runners.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn remove_other_builds(&self) -> Result<(), SandboxError> {
        self.0.runner.remove_others(&self.0.engine).await
    }

    /// What is known of the Engine.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn facts(&self) -> Result<EngineFacts, SandboxError> {
        facts::read(&self.0.engine).await
    }

    /// Makes the runtime's image where it is missing; `progress` gets a line at a time.
    ///
    /// # Errors
    /// Which step failed, and what to do.
    pub async fn build_image(
        &self,
        runtime: &Runtime,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<ImageState, SandboxError> {
        let image = self.0.images.ensure(runtime, progress).await?;
        Ok(ImageState { tag: runtime.image_name(), size: Some(image.size) })
    }

    /// Whether the runtime's image exists, and how big it is.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn image_state(&self, runtime: &Runtime) -> Result<ImageState, SandboxError> {
        let image = self.0.images.find(runtime).await?;
        Ok(ImageState { tag: runtime.image_name(), size: image.map(|image| image.size) })
    }
}

/// The request that makes a container of ours, for `benches/`: the raw Engine cycle must be measured with the same
/// profile. The labels are those of this process as `instance`, so that whatever it leaves is found and removed.
///
/// # Errors
/// The runner can't be read.
#[doc(hidden)]
pub async fn container_profile(
    instance: &str,
    runner: &Path,
    image: &str,
    uid: u32,
    limits: &Limits,
) -> Result<ContainerCreateBody, SandboxError> {
    let runner = Runner::read(runner.to_owned()).await?;
    let labels = Ownership::of_this_process(instance.to_owned()).labels(None);
    let identity =
        Identity { image, runner_volume: &runner.volume, uid, oci_runtime: None, writable: &[], labels };
    Ok(profile::container(identity, limits))
}

/// For the log of a server; `doctor` shows the same.
fn warn_of_holes(facts: &EngineFacts) {
    if let Some(said) = facts.against_engine() {
        warn!(version = %facts.version, "the Engine's version {said}");
    }
    if let Some(said) = facts.against_oci_runtime() {
        warn!(version = %facts.oci_runtime_version, "runc's version {said}");
    }
}

impl Inner {
    async fn ensure_runner(&self) -> Result<(), SandboxError> {
        if !self.runner_ready.load(Ordering::SeqCst) {
            self.runner.ensure(&self.engine, &self.ownership, &self.removals).await?;
            self.runner_ready.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn attempt(
        &self,
        job: &Job,
        events: &dyn Events,
        cancel: &CancellationToken,
    ) -> Result<Report, SandboxError> {
        let began = Instant::now();
        let started = async {
            let image = self.images.ensure(&job.spec.runtime, &|line| events.progress(line)).await?;
            self.ensure_runner().await?;
            let container = self.create(job, image).await?;
            let streams = self.start(&container).await?;
            Ok::<_, SandboxError>((container, streams))
        };
        let (container, streams) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(report::killed_before_start()),
            started = started => started?,
        };
        let start = start_message(job);
        let conversation = session::converse(streams, &start, job, events, cancel).await?;
        self.report(&container, job, began, conversation).await
    }

    /// Creates the container. An image that was removed behind our back is built again, once.
    async fn create(&self, job: &Job, image: Image) -> Result<Container, SandboxError> {
        match self.create_from(job, &image).await {
            Err(EngineError::NotFound { .. }) => {
                self.images.forget(&job.spec.runtime);
                let image = self.images.ensure(&job.spec.runtime, &|_| ()).await?;
                Ok(self.create_from(job, &image).await?)
            }
            other => Ok(other?),
        }
    }

    async fn create_from(&self, job: &Job, image: &Image) -> Result<Container, EngineError> {
        let (name, body) = self.container_of(job, image);
        Container::create(&self.engine, &self.removals, &name, body).await
    }

    /// Name and profile of an attempt's container.
    fn container_of(&self, job: &Job, image: &Image) -> (String, ContainerCreateBody) {
        let identity = Identity {
            image: &image.id,
            runner_volume: &self.runner.volume,
            uid: self.uid_base + u32::from(job.slot),
            oci_runtime: self.oci_runtime.as_deref(),
            writable: &job.spec.runtime.writable,
            labels: self.ownership.labels(Some((job.id, job.attempt))),
        };
        // An attempt that found the Engine away is made again under its own number: the name must be another.
        let fresh = uuid::Uuid::new_v4().simple();
        let name = format!("execbox-{}-{}-{fresh}", job.id, job.attempt);
        (name, profile::container(identity, &job.spec.limits))
    }

    /// Whatever went wrong with the start, the runner's volume may be what is missing.
    async fn start(&self, container: &Container) -> Result<(Input, Output), EngineError> {
        container.start().await.inspect_err(|_| self.runner_ready.store(false, Ordering::SeqCst))
    }

    async fn report(
        &self,
        container: &Container,
        job: &Job,
        began: Instant,
        conversation: Conversation,
    ) -> Result<Report, SandboxError> {
        let limits = &job.spec.limits;
        let outcome = match &conversation.ending {
            Ending::Report(end) => {
                return Ok(report::of_end(end, verdict::of_report(end, limits), began, &conversation));
            }
            Ending::Cancelled => verdict::without_report(true, conversation.phase, limits),
            Ending::TimedOut => {
                container.ran_freely().await?;
                verdict::without_report(false, conversation.phase, limits)
            }
            Ending::Lost(_) if container.runner_out_of_memory().await => verdict::out_of_memory(None, limits),
            Ending::Lost(why) => return Err(SandboxError::Lost(why.clone())),
        };
        container.kill().await;
        Ok(report::bare(outcome, began, &conversation))
    }
}

impl Sandbox for DockerSandbox {
    fn run<'a>(
        &'a self,
        job: Job,
        events: &'a dyn Events,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Report, SandboxError>> {
        Box::pin(async move { self.0.attempt(&job, events, &cancel).await })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async {
            if self.0.engine.circuit.check().await {
                return Ok(());
            }
            Err(SandboxError::Away(format!("{} does not answer", self.0.engine.address)))
        })
    }

    fn until_ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.engine.circuit.closed())
    }

    fn image_ready<'a>(&'a self, runtime: &'a Runtime) -> BoxFuture<'a, bool> {
        Box::pin(async { matches!(self.0.images.find(runtime).await, Ok(Some(_))) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.removals.close();
            let patience = if self.0.engine.circuit.is_open() { CLOSE_WHILE_AWAY } else { CLOSE };
            if tokio::time::timeout(patience, self.0.removals.wait()).await.is_err() {
                warn!(count = self.0.removals.len(), "containers are left; the next start removes them");
            }
        })
    }
}

/// Files and folders that the runner looks at for artifacts: as many as a workspace can hold by default.
const MAX_WALK: u64 = 100_000;

fn start_message(job: &Job) -> Start {
    let (spec, limits) = (&job.spec, &job.spec.limits);
    let phase = |argv: &Vec<String>, timeout_ms| PhaseSpec { argv: argv.clone(), timeout_ms };
    Start {
        nonce: uuid::Uuid::new_v4().to_string(),
        compile: spec.command.compile.as_ref().map(|argv| phase(argv, limits.compile_timeout_ms)),
        run: phase(&spec.command.run, limits.timeout_ms),
        env: spec.command.env.clone(),
        output_bytes: limits.output_bytes,
        flood_bytes: verdict::flood_bytes(limits),
        artifacts: ArtifactSpec {
            globs: spec.artifacts.clone(),
            max_bytes: limits.artifact_bytes,
            max_count: limits.artifact_count,
            max_entries: MAX_WALK,
        },
    }
}
