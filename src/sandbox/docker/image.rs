//! The images of the runtimes: reused when present, built at most once at a time each, tagged only when whole.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::body_full;
use bollard::models::ImageInspect;
use bollard::query_parameters::BuildImageOptionsBuilder;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{broadcast, watch};
use tracing::{info, warn};

use crate::failpoint;
use crate::runtime::{INSTALLER, Runtime};
use crate::sandbox::docker::base;
use crate::sandbox::docker::disposal::RUNTIME;
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::ownership::APP;
use crate::sandbox::{ImageError, SandboxError};

/// File of the build context that holds the certificates to trust; empty when there are none.
const CA_FILE: &str = "execbox-ca.crt";
/// Lines of a build that a slow follower may be behind; it then misses some.
const LINES_BEHIND: usize = 256;
/// The end of a failed build's output that its error carries, in lines.
const LOG_TAIL: usize = 12;
const INSPECT: Duration = Duration::from_secs(10);

/// What image builds need from outside.
#[derive(Debug, Clone)]
pub(super) struct BuildSettings {
    pub(super) ca_bundle: Option<PathBuf>,
    pub(super) debian_mirror: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) network: String,
    pub(super) timeout: Duration,
}

/// An image that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Its tag, which moves when it is built again.
    pub(super) name: String,
    /// `sha256:...`
    pub(super) id: String,
    pub(super) size: u64,
}

/// A build that is under way.
#[derive(Debug, Clone)]
struct Build {
    lines: broadcast::Sender<String>,
    done: watch::Receiver<Option<Result<Image, ImageError>>>,
}

/// All images of one Engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    settings: BuildSettings,
    state: Mutex<State>,
    /// Two runtimes must not make the same base at once.
    base: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    ready: HashMap<String, Image>,
    building: HashMap<String, Build>,
}

impl Images {
    pub(super) fn new(engine: Engine, settings: BuildSettings) -> Self {
        Self(Arc::new(Inner {
            engine,
            settings,
            state: Mutex::default(),
            base: tokio::sync::Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime's image, built first where it is missing. A caller that goes away leaves the build running:
    /// others may wait for it. A failure is not remembered.
    pub(super) async fn ensure(
        &self,
        runtime: &Runtime,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Image, SandboxError> {
        if let Some(image) = self.find(runtime).await? {
            return Ok(image);
        }
        if let Some(base) = &runtime.base {
            // It may be gone from the Engine, and only be remembered.
            self.forget(base);
            Box::pin(self.ensure(base, progress)).await?;
        }
        let Build { lines, mut done } = self.join_build(runtime);
        let mut lines = lines.subscribe();
        let mut image = std::pin::pin!(outcome(&mut done));
        loop {
            tokio::select! {
                biased;
                Ok(line) = lines.recv() => progress(&line),
                image = &mut image => return self.unless_away(image).await,
            }
        }
    }

    /// The image that a job runs in: one of the caller's own, or the runtime's.
    pub(super) async fn of(
        &self,
        runtime: &Runtime,
        own: Option<&str>,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Image, SandboxError> {
        match own {
            Some(name) => self.named(name, progress).await,
            None => self.ensure(runtime, progress).await,
        }
    }

    /// An image by its name, pulled first where it is missing. What it is now: the name may move.
    async fn named(
        &self,
        name: &str,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Image, SandboxError> {
        if let Some(image) = self.find_named(name).await? {
            return Ok(image);
        }
        let engine = &self.0.engine;
        progress(&format!("pulling the image {name}"));
        let failed = |details: String| ImageError {
            message: format!("the image {name} is not here, and could not be pulled"),
            details: Some(details),
        };
        if let Err(why) = base::pull(engine, name, progress).await {
            return self.unless_away(Err(failed(why).into())).await;
        }
        match inspect(engine, name).await? {
            Some(inspected) => usable(name, name, &inspected),
            None => Err(failed("the Engine says that it is pulled, but has no such image".to_owned()).into()),
        }
    }

    /// An image by its name, if it is there.
    pub(super) async fn find_named(&self, name: &str) -> Result<Option<Image>, SandboxError> {
        let inspected = inspect(&self.0.engine, name).await?;
        inspected.map(|inspected| usable(name, name, &inspected)).transpose()
    }

    /// A build that failed because the Engine went away says nothing about the image.
    async fn unless_away(&self, built: Result<Image, SandboxError>) -> Result<Image, SandboxError> {
        match built {
            Err(SandboxError::Image(why)) if !self.0.engine.circuit.check().await => {
                Err(SandboxError::Away(why.to_string()))
            }
            other => other,
        }
    }

    /// The runtime's image, if it is there.
    pub(super) async fn find(&self, runtime: &Runtime) -> Result<Option<Image>, SandboxError> {
        let tag = runtime.image_name();
        if let Some(image) = self.state().ready.get(&tag) {
            return Ok(Some(image.clone()));
        }
        match inspect(&self.0.engine, &tag).await? {
            Some(inspected) => {
                let image = usable(&runtime.name, &tag, &inspected)?;
                self.state().ready.insert(tag, image.clone());
                Ok(Some(image))
            }
            None => Ok(None),
        }
    }

    /// What its image starts from, and how big that is, if it is there.
    pub(super) async fn base(&self, runtime: &Runtime) -> Result<Option<(String, u64)>, SandboxError> {
        let Some(base) = runtime.base_image() else { return Ok(None) };
        let size = inspect(&self.0.engine, &base).await?.and_then(|base| u64::try_from(base.size?).ok());
        Ok(size.map(|size| (base, size)))
    }

    /// It was there, and is gone: somebody removed it.
    pub(super) fn forget(&self, runtime: &Runtime) {
        self.state().ready.remove(&runtime.image_name());
    }

    /// Joins the build that is under way, or starts one.
    fn join_build(&self, runtime: &Runtime) -> Build {
        let tag = runtime.image_name();
        let mut state = self.state();
        if let Some(build) = state.building.get(&tag) {
            return build.clone();
        }
        let (finished, done) = watch::channel(None);
        let build = Build { lines: broadcast::Sender::new(LINES_BEHIND), done };
        state.building.insert(tag.clone(), build.clone());
        let (images, runtime, lines) = (self.clone(), runtime.clone(), build.lines.clone());
        tokio::spawn(async move {
            let limit = images.0.settings.timeout;
            let result = match tokio::time::timeout(limit, images.build(&runtime, &lines)).await {
                Ok(result) => result,
                Err(_) => Err(failed(
                    &runtime,
                    format!("it took over {} s; raise --build-timeout-seconds", limit.as_secs()),
                )),
            };
            let mut state = images.state();
            state.building.remove(&tag);
            match &result {
                Ok(image) => drop(state.ready.insert(tag, image.clone())),
                Err(error) => warn!(%error, "image build failed"),
            }
            drop(state);
            finished.send_replace(Some(result));
        });
        build
    }

    async fn build(&self, runtime: &Runtime, lines: &broadcast::Sender<String>) -> Result<Image, ImageError> {
        let inspected = self.make(runtime, lines).await.map_err(|why| failed(runtime, why))?;
        usable(&runtime.name, &runtime.image_name(), &inspected).map_err(|error| match error {
            SandboxError::Image(error) => error,
            other => failed(runtime, other.to_string()),
        })
    }

    /// Makes it, whatever it is.
    async fn make(
        &self,
        runtime: &Runtime,
        lines: &broadcast::Sender<String>,
    ) -> Result<ImageInspect, String> {
        let tag = runtime.image_name();
        info!(runtime = %runtime.name, %tag, "building an image");
        let say = |line: &str| drop(lines.send(line.to_owned()));
        say(&format!(
            "building the image of {} {} (once; later executions reuse it)",
            runtime.name, runtime.version
        ));
        if let (Some(base), None) = (runtime.base_image(), &runtime.base) {
            let _one_at_a_time = self.0.base.lock().await;
            base::ensure(&self.0.engine, &base, &self.0.settings, &say).await?;
        }
        let context = context(runtime, self.0.settings.ca_bundle.as_deref()).await?;
        self.run_build(runtime, context, &say).await?;
        let inspected = inspect(&self.0.engine, &tag).await.map_err(|error| error.to_string())?;
        inspected.ok_or_else(|| "the Engine says that it is built, but has no such image".to_owned())
    }

    async fn run_build(
        &self,
        runtime: &Runtime,
        context: Bytes,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<(), String> {
        let settings = &self.0.settings;
        let mut arguments = build_arguments(settings);
        if let Some(base) = &runtime.base {
            arguments.insert("EXECBOX_BASE".to_owned(), base.image_name());
        }
        let options = BuildImageOptionsBuilder::default()
            .dockerfile("Dockerfile")
            .t(&runtime.image_name())
            .rm(true)
            .forcerm(true)
            .networkmode(&settings.network)
            .buildargs(&arguments)
            .labels(&HashMap::from([(APP, "1"), (RUNTIME, runtime.name.as_str())]))
            .build();
        failpoint::pass_step("engine", "build", "before");
        let mut steps = self.0.engine.docker.build_image(options, None, Some(body_full(context)));
        let mut tail = std::collections::VecDeque::new();
        while let Some(step) = steps.next().await {
            let text = match step {
                Ok(info) => info.stream.or(info.status).unwrap_or_default(),
                Err(error) => return Err(build_failed(&error.to_string(), tail)),
            };
            for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                say(line);
                tail.push_back(line.to_owned());
                if tail.len() > LOG_TAIL {
                    tail.pop_front();
                }
            }
        }
        failpoint::pass_step("engine", "build", "after");
        Ok(())
    }
}

fn failed(runtime: &Runtime, why: String) -> ImageError {
    let name = &runtime.name;
    let again = match name.strip_suffix(INSTALLER) {
        Some(runtime) => format!("{runtime} --installs packages"),
        None => name.clone(),
    };
    let message = format!(
        "the image of {name} could not be made; the server's log says why, and so does `execbox images build {again}`"
    );
    ImageError { message, details: Some(why) }
}

fn build_failed(error: &str, tail: impl IntoIterator<Item = String>) -> String {
    let log: Vec<String> = tail.into_iter().collect();
    format!(
        "{error}. The end of the build's output:\n{}\nIf it could not download, see --debian-mirror, --ca-bundle, \
         --build-proxy and --build-network",
        log.join("\n")
    )
}

async fn outcome(
    done: &mut watch::Receiver<Option<Result<Image, ImageError>>>,
) -> Result<Image, SandboxError> {
    match done.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(result)) => result.clone().map_err(SandboxError::from),
        _ => Err(SandboxError::Lost("the image build was given up".into())),
    }
}

async fn inspect(engine: &Engine, tag: &str) -> Result<Option<ImageInspect>, SandboxError> {
    match engine.call("inspect image", INSPECT, engine.docker.inspect_image(tag)).await {
        Ok(inspected) => Ok(Some(inspected)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An image with a volume is refused: a volume is a writable disk, even under a read-only root.
fn usable(of: &str, name: &str, inspected: &ImageInspect) -> Result<Image, SandboxError> {
    let volumes = inspected.config.as_ref().and_then(|config| config.volumes.as_ref());
    if volumes.is_some_and(|volumes| !volumes.is_empty()) {
        let message = format!(
            "the image of {of} declares a VOLUME, which would be a writable disk; take it out of its Dockerfile"
        );
        return Err(ImageError { message, details: None }.into());
    }
    let id = inspected.id.clone().ok_or_else(|| SandboxError::Engine("an image without an id".into()))?;
    Ok(Image {
        name: name.to_owned(),
        id,
        size: inspected.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
    })
}

fn build_arguments(settings: &BuildSettings) -> HashMap<String, String> {
    let mut arguments = HashMap::new();
    if let Some(mirror) = &settings.debian_mirror {
        arguments.insert("EXECBOX_DEBIAN_MIRROR".to_owned(), mirror.clone());
    }
    if let Some(proxy) = &settings.proxy {
        for name in ["http_proxy", "https_proxy"] {
            arguments.insert(name.to_owned(), proxy.clone());
        }
    }
    arguments
}

/// The build context as a tar archive: the runtime's files, and the certificates to trust.
async fn context(runtime: &Runtime, ca_bundle: Option<&std::path::Path>) -> Result<Bytes, String> {
    let certificates = match ca_bundle {
        Some(path) => {
            let read = tokio::fs::read(path).await;
            read.map_err(|error| format!("the CA bundle {} can't be read: {error}", path.display()))?
        }
        None => Vec::new(),
    };
    let files = runtime.context.iter().map(|(path, content)| (path.as_str(), content.as_slice()));
    archive(files.chain([(CA_FILE, certificates.as_slice())]))
        .map_err(|error| format!("the build context: {error}"))
}

/// A tar archive of small files, executable ones and all.
pub(super) fn archive<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> std::io::Result<Bytes> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append_data(&mut header, path, content)?;
    }
    Ok(builder.into_inner()?.into())
}
