//! Docker behind the sandbox trait. The only place that knows the Engine's client library.

mod advisories;
mod base;
mod circuit;
mod container;
mod dependencies;
mod disposal;
mod engine;
mod facts;
mod image;
mod incoming;
mod keeper;
mod ownership;
mod pool;
mod probe;
mod profile;
mod report;
mod reuse;
mod rooms;
mod runner_volume;
mod session;
mod streams;
mod uids;
mod unreachable;
mod verdict;
mod workspace_volume;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use dependencies::{InstallConfig, PackagePrune};
pub use disposal::Disposal;
pub use facts::EngineFacts;
pub use pool::PoolLimits;
pub use probe::ProbeReport;
pub use reuse::{Reuse, ReuseInForce};

use crate::limits::Limits;
use crate::runner::message::{ArtifactSpec, PhaseSpec, Start, WatchSpec};
use crate::runtime::{INPUT_VARIABLE, JOB_VARIABLE, Runtime};
use crate::sandbox::docker::container::Container;
use crate::sandbox::docker::dependencies::{Dependencies, Prepared, Whole};
use crate::sandbox::docker::engine::{ContainerUsage, Engine, EngineError};
use crate::sandbox::docker::image::{BuildSettings, Images};
use crate::sandbox::docker::keeper::{Keeper, Kind, MakeError, Taken, Warm};
use crate::sandbox::docker::ownership::Ownership;
use crate::sandbox::docker::pool::Life;
use crate::sandbox::docker::profile::{Class, Identity};
use crate::sandbox::docker::runner_volume::Runner;
use crate::sandbox::docker::session::{Conversation, Ending};
use crate::sandbox::docker::streams::Streams;
use crate::sandbox::docker::uids::Uids;
use crate::sandbox::docker::workspace_volume::Placement;
use crate::sandbox::{BoxFuture, Events, Job, Report, Sandbox, SandboxError, WantedImages};

/// How the Engine is reached and used.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `unix:///...` or `tcp://...`; `None` takes the usual sockets.
    pub host: Option<String>,
    /// OCI runtime other than the Engine's default.
    pub oci_runtime: Option<String>,
    /// First user id of the containers.
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
    /// How many containers are kept warm.
    pub pool: PoolLimits,
    /// Which workspaces are volumes.
    pub disk: DiskConfig,
    /// How packages are installed.
    pub installs: InstallConfig,
}

/// Which workspaces are volumes on the Engine's disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskConfig {
    /// Size up to which a workspace is in memory.
    pub most_in_memory: u64,
    /// What must stay free on the Engine's disk while a program writes to it.
    pub reserve: u64,
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
    /// Containers on their way out, and those that are being emptied.
    removals: TaskTracker,
    uids: Uids,
    oci_runtime: Option<String>,
    disk: DiskConfig,
    keeper: Arc<Keeper>,
    dependencies: Dependencies,
    /// Set once, after a probe.
    rooms: AtomicBool,
}

/// The state of a runtime's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageState {
    /// Its tag: made from the runtime's name and a hash of what it is built from.
    pub tag: String,
    /// Its size in bytes, when it is built.
    pub size: Option<u64>,
    /// The image that it starts from, with its size: layers that others share.
    pub base: Option<(String, u64)>,
}

/// What removals get at the end of a drain.
const CLOSE: Duration = Duration::from_secs(20);
/// The same with an Engine that is away: it may just be coming back.
const CLOSE_WHILE_AWAY: Duration = Duration::from_secs(1);

/// From a container's start to the runner's first word.
const STARTUP: Duration = Duration::from_secs(60);

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
        let dependencies = Dependencies::new(
            config.installs,
            config.ca_bundle.clone(),
            config.build_proxy.clone(),
            config.instance.clone(),
        );
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
            uids: Uids::from(config.uid_base),
            oci_runtime: config.oci_runtime,
            disk: config.disk,
            keeper: Arc::new(Keeper::new(config.pool)),
            dependencies,
            rooms: AtomicBool::new(false),
            engine,
        }));
        let inner = &sandbox.0;
        inner.ownership.remove_orphans(&inner.engine).await?;
        inner.recover_dependencies().await?;
        inner.ensure_runner().await?;
        keeper::start(inner);
        Ok(sandbox)
    }

    /// Removes what others left: volumes with the runners of earlier builds of this binary, and, from now on and off the
    /// caller's path, packages that nobody comes back for.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn remove_leftovers(&self) -> Result<(), SandboxError> {
        self.0.start_pruning();
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
        self.0.images.ensure(runtime, progress).await?;
        self.image_state(runtime).await
    }

    /// Whether the runtime's image exists, and how big it is.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn image_state(&self, runtime: &Runtime) -> Result<ImageState, SandboxError> {
        let image = self.0.images.find(runtime).await?;
        let base = self.0.images.base(runtime).await?;
        Ok(ImageState { tag: runtime.image_name(), size: image.map(|image| image.size), base })
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
    let labels = Ownership::of_this_process(instance.to_owned()).labels();
    let identity = Identity {
        image,
        runner_volume: &runner.volume,
        uid,
        oci_runtime: None,
        dependencies: None,
        writable: &[],
        labels,
        name: instance,
    };
    Ok(profile::container(identity, &Class::of(limits, Reuse::Never, Placement::Memory)))
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

/// Whether a container went before the program started in it, and not for want of memory for the execution's files: the
/// caller need not know.
async fn untouched(container: &Container, conversation: &Conversation) -> bool {
    match &conversation.ending {
        Ending::Unanswered(_) => true,
        Ending::Lost(_) => conversation.phase().is_none() && !container.runner_out_of_memory().await,
        _ => false,
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
        self: &Arc<Self>,
        job: &Job,
        events: &dyn Events,
        cancel: &CancellationToken,
    ) -> Result<Report, SandboxError> {
        let began = Instant::now();
        let prepared = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(report::killed_before_start()),
            prepared = self.prepare(job, events) => prepared?,
        };
        let (packages, install) = match prepared {
            Prepared::Ready { volume, install } => (volume, install),
            Prepared::Failed { outcome, install } => {
                return Ok(report::not_installed(outcome, install, began));
            }
        };
        let installed = Instant::now();
        let start = self.start_message(job);
        let mut again = false;
        loop {
            let taken = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(report::killed_before_start()),
                taken = self.take(job, packages.as_ref(), events) => taken?,
            };
            let Taken { mut warm, kind, life, waited } = taken;
            let conversed = session::converse(&mut warm.streams, &start, job, events, cancel).await;
            if !conversed.as_ref().is_ok_and(Conversation::is_reported) {
                warm.container.run_away(Arc::clone(&job.slot));
            }
            let conversation = conversed?;
            // One that waited may have died long ago; of those made for it, or lost with its files in them, only one.
            if waited && matches!(conversation.ending, Ending::Unanswered(_)) {
                continue;
            }
            if !again && untouched(&warm.container, &conversation).await {
                debug!(ending = ?conversation.ending, "a container went before its program started");
                again = true;
                continue;
            }
            let report = self.report(&warm.container, job, installed, &conversation).await?;
            self.put_back(warm, kind, life, job, &conversation);
            return Ok(report::with_install(report, install, installed.duration_since(began)));
        }
    }

    /// A container for this attempt: a warm one, else one that is made now.
    async fn take(
        self: &Arc<Self>,
        job: &Job,
        packages: Option<&Arc<Whole>>,
        events: &dyn Events,
    ) -> Result<Taken, SandboxError> {
        let own_image: Option<Arc<str>> = job.spec.image.as_deref().map(Arc::from);
        let say = |line: &str| events.progress(line);
        let image = self.images.of(&job.spec.runtime, own_image.as_deref(), &say).await?;
        let kind = Kind {
            own_image,
            runtime: Arc::clone(&job.spec.runtime),
            image,
            class: self.class(&job.spec.limits, self.reuse()),
            dependencies: packages.map(|packages| packages.name.as_str().into()),
        };
        // One on disk is made for its execution: that costs little beside what fills it.
        if kind.class.workspace == Placement::Memory
            && let Some((warm, life)) = self.take_warm(&kind, &job.spec.tenant.to_string()).await
        {
            return Ok(Taken { warm, kind, life, waited: true });
        }
        let (warm, kind) = self.make(&kind).await?;
        let life = Life { tenant: None, made: Instant::now(), served: 0 };
        Ok(Taken { warm, kind, life, waited: false })
    }

    fn class(&self, limits: &Limits, reuse: Reuse) -> Class {
        Class::of(limits, reuse, Placement::of(limits, self.disk.most_in_memory))
    }

    /// Makes a container, and waits for its runner's first word. An image that was removed behind our back is built
    /// again, once.
    async fn make(self: &Arc<Self>, kind: &Kind) -> Result<(Warm, Kind), SandboxError> {
        match self.make_as_it_is(kind).await {
            // The same answer for a container that somebody removed meanwhile.
            Err(MakeError::Engine(EngineError::NotFound { .. })) => {
                self.images.forget(&kind.runtime);
                let image = self.images.of(&kind.runtime, kind.own_image.as_deref(), &|_| ()).await?;
                let kind = Kind { image, ..kind.clone() };
                Ok((self.make_as_it_is(&kind).await?, kind))
            }
            other => Ok((other?, kind.clone())),
        }
    }

    async fn make_as_it_is(self: &Arc<Self>, kind: &Kind) -> Result<Warm, MakeError> {
        self.ensure_runner().await?;
        self.make_from(kind, |body| body).await
    }

    async fn make_from(
        self: &Arc<Self>,
        kind: &Kind,
        alter: impl FnOnce(ContainerCreateBody) -> ContainerCreateBody,
    ) -> Result<Warm, MakeError> {
        let uid = self.uids.lease().ok_or_else(|| SandboxError::Lost("no user id is free".into()))?;
        let name = format!("execbox-{}", uuid::Uuid::new_v4().simple());
        let identity = Identity {
            image: &kind.image.id,
            runner_volume: &self.runner.volume,
            uid: uid.id,
            oci_runtime: self.oci_runtime.as_deref(),
            dependencies: kind.dependencies.as_deref(),
            writable: &kind.runtime.writable,
            labels: self.ownership.labels(),
            name: &name,
        };
        let user = uid.id;
        let body = alter(profile::container(identity, &kind.class));
        let container = Container::create(&self.engine, &self.removals, &name, Some(uid), body).await?;
        if let Some(volume) = &kind.dependencies
            && !dependencies::is_there(&self.engine, volume).await?
        {
            // The Engine has made an empty one in its place.
            self.forget_dependencies(volume);
            return Err(SandboxError::Lost("its packages were removed".into()).into());
        }
        if kind.class.workspace.is_volume() {
            workspace_volume::prepare(&self.engine, &container.id, user).await?;
        }
        // Whatever went wrong with the start, the runner's volume may be what is missing.
        let started =
            container.start().await.inspect_err(|_| self.runner_ready.store(false, Ordering::SeqCst));
        let mut streams = Streams::new(started?);
        streams.hello(STARTUP).await?;
        Ok(Warm { container, streams })
    }

    async fn report(
        &self,
        container: &Container,
        job: &Job,
        began: Instant,
        conversation: &Conversation,
    ) -> Result<Report, SandboxError> {
        let limits = &job.spec.limits;
        let workspace = self.class(limits, self.reuse()).workspace;
        let outcome = match &conversation.ending {
            Ending::Report(end) => {
                let outcome = verdict::of_report(end, limits, workspace);
                let notice = verdict::killed_unnoticed(end, &outcome, limits, workspace);
                let mut report = report::of_end(end, outcome, began, conversation);
                report.notices.extend(notice);
                return Ok(report);
            }
            Ending::Cancelled => verdict::without_report(true, conversation.phase(), limits),
            Ending::TimedOut => {
                let (freely, used) = tokio::join!(container.ran_freely(), container.usage());
                freely?;
                // The peak of a container that has served others may be theirs.
                let own = self.reuse() == Reuse::Never;
                let used =
                    ContainerUsage { memory_peak_bytes: used.memory_peak_bytes.filter(|_| own), ..used };
                let outcome = verdict::without_report(false, conversation.phase(), limits);
                return Ok(report::late(outcome, began, conversation, used));
            }
            Ending::Lost(_) if container.runner_out_of_memory().await => {
                verdict::container_full(limits, workspace)
            }
            Ending::Lost(why) | Ending::Unanswered(why) => return Err(SandboxError::Lost(why.clone())),
        };
        Ok(report::bare(outcome, began, conversation))
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

    fn images_ready<'a>(&'a self, wanted: WantedImages<'a>) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let images = &self.0.images;
            let found = match wanted.own {
                Some(name) => images.find_named(name).await,
                None => images.find(wanted.runtime).await,
            };
            let is_there = matches!(found, Ok(Some(_)));
            is_there
                && (!wanted.installer
                    || matches!(images.find(&wanted.runtime.installer()).await, Ok(Some(_))))
        })
    }

    fn ensure_images<'a>(
        &'a self,
        wanted: WantedImages<'a>,
        progress: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move {
            let images = &self.0.images;
            images.of(wanted.runtime, wanted.own, progress).await?;
            if wanted.installer {
                images.ensure(&wanted.runtime.installer(), progress).await?;
            }
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.keeper.close();
            self.0.removals.close();
            let patience = if self.0.engine.circuit.is_open() { CLOSE_WHILE_AWAY } else { CLOSE };
            if tokio::time::timeout(patience, self.0.removals.wait()).await.is_err() {
                warn!(count = self.0.removals.len(), "containers are left; the next start removes them");
            }
            self.0.close_guard().await;
        })
    }
}

impl Inner {
    fn start_message(&self, job: &Job) -> Start {
        let (spec, limits) = (&job.spec, &job.spec.limits);
        let phase = |argv: &Vec<String>, timeout_ms| PhaseSpec { argv: argv.clone(), timeout_ms };
        let on_disk = self.class(limits, self.reuse()).workspace.is_volume();
        let mut env = spec.command.env.clone();
        // Whoever is given data may know whose it is. Not in the file: that goes with the project, which has no id.
        if env.iter().any(|(name, _)| name == INPUT_VARIABLE) {
            env.push((JOB_VARIABLE.to_owned(), job.id.to_string()));
        }
        Start {
            nonce: uuid::Uuid::new_v4().to_string(),
            compile: spec.command.compile.as_ref().map(|argv| phase(argv, limits.compile_timeout_ms)),
            run: phase(&spec.command.run, limits.timeout_ms),
            env,
            stdin: !spec.stdin.is_empty(),
            output_bytes: limits.output_bytes,
            flood_bytes: verdict::flood_bytes(limits),
            rlimits: profile::rlimits(limits),
            disk: profile::disk(limits),
            memory_bytes: limits.memory_bytes,
            cpu_millis: limits.cpu_millis,
            shared: false,
            watch: on_disk.then_some(WatchSpec {
                bytes: limits.disk_bytes,
                entries: limits.disk_inodes,
                reserve: self.disk.reserve,
            }),
            artifacts: ArtifactSpec {
                globs: spec.artifacts.clone(),
                max_bytes: limits.artifact_bytes,
                max_count: limits.artifact_count,
                // As many as the workspace can hold.
                max_entries: limits.disk_inodes,
            },
        }
    }
}
