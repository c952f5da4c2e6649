//! The Engine's client: how it is found, and one function for each operation, each with a deadline.

use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerUpdateBody};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StatsOptionsBuilder,
};
use futures::StreamExt as _;

use crate::failpoint;
use crate::sandbox::SandboxError;
use crate::sandbox::docker::circuit::Circuit;
use crate::sandbox::docker::unreachable::Unreachable;

/// Sockets that are tried in this order when nothing says otherwise.
const SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
/// Reads and small changes.
const QUICK: Duration = Duration::from_secs(10);
/// Making, starting and removing a container under load.
const SLOW: Duration = Duration::from_secs(60);
/// What the Engine says, with a 409, of a container that it is removing already.
const REMOVING: &str = "is already in progress";
/// What the Engine says of a start of one that it removes.
const GOING: &str = "is marked for removal";
/// A pause or a kill that takes longer is left to the removal, which kills as well.
const KILL: Duration = Duration::from_secs(2);
/// Timeout for reading what a container has used. A caller waits for the answer meanwhile.
const STATS: Duration = Duration::from_millis(300);
/// A call that takes longer makes us doubt that the Engine is there; it is asked, and again after each such time.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the Engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    pub(super) address: String,
    pub(super) circuit: Circuit,
}

/// What a container has used since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ContainerUsage {
    /// Processor time in microseconds.
    pub(super) cpu_us: u64,
    /// Highest memory in bytes; `None` on cgroup version 2, whose peak the Engine does not report.
    pub(super) memory_peak_bytes: Option<u64>,
}

/// Why an operation failed, as far as we act on it.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// The thing that was named is not there.
    #[error("{what}: not found ({message})")]
    NotFound { what: &'static str, message: String },
    /// The Engine is away: it did not answer when it was asked after this went wrong.
    #[error("{what}: the Engine is away ({message})")]
    Away { what: &'static str, message: String },
    /// Anything else.
    #[error("{what}: {message}")]
    Failed { what: &'static str, message: String },
}

impl From<EngineError> for SandboxError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Away { .. } => Self::Away(error.to_string()),
            EngineError::NotFound { .. } | EngineError::Failed { .. } => Self::Engine(error.to_string()),
        }
    }
}

/// Waits for an operation of the Engine, at most this long.
async fn within<T>(
    what: &'static str,
    limit: Duration,
    operation: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::DockerResponseServerError { status_code: 404, message })) => {
            Err(EngineError::NotFound { what, message })
        }
        Ok(Err(error)) => Err(EngineError::Failed { what, message: error.to_string() }),
        Err(_) => {
            Err(EngineError::Failed { what, message: format!("no answer within {} s", limit.as_secs()) })
        }
    }
}

impl Engine {
    /// Connects to `host`, or to the first of the usual sockets that answers.
    pub(super) async fn connect(host: Option<&str>) -> Result<Self, SandboxError> {
        let candidates = match host {
            Some(host) => vec![host.to_owned()],
            None => SOCKETS.iter().map(|path| format!("unix://{path}")).collect(),
        };
        let (mut tried, mut forbidden) = (Vec::new(), None);
        for address in candidates {
            match Self::connect_to(address).await {
                Ok(engine) => return Ok(engine),
                Err(Unreachable::Forbidden(why)) => forbidden = forbidden.or(Some(why)),
                Err(Unreachable::Silent(why)) => tried.push(why),
            }
        }
        // To start another would not help.
        Err(SandboxError::Engine(forbidden.unwrap_or_else(|| {
            format!(
                "no Docker Engine answers ({}); start one, run deploy/setup-engine.sh, or set --docker-host",
                tried.join("; ")
            )
        })))
    }

    async fn connect_to(address: String) -> Result<Self, Unreachable> {
        let failed = |error| Unreachable::new(&address, &error);
        let docker = Docker::connect_with_host(&address).map_err(failed)?;
        let negotiated = tokio::time::timeout(QUICK, docker.negotiate_version()).await;
        let docker = match negotiated {
            Ok(docker) => docker.map_err(failed)?,
            Err(_) => {
                let why = format!("{address}: no answer within {} s", QUICK.as_secs());
                return Err(Unreachable::Silent(why));
            }
        };
        let circuit = Circuit::new(docker.clone());
        Ok(Self { docker, address, circuit })
    }

    /// Runs one operation, at most this long. Not at all while the Engine is known to be away; and given up as soon as
    /// that shows, instead of after its whole time.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        limit: Duration,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        let away = |message: String| EngineError::Away { what, message };
        if self.circuit.is_open() {
            return Err(away("known already".into()));
        }
        let operation = async {
            failpoint::pass_step("engine", what, "before");
            let answer = within(what, limit, operation).await;
            failpoint::pass_step("engine", what, "after");
            answer
        };
        let mut operation = std::pin::pin!(operation);
        loop {
            match tokio::time::timeout(PATIENCE, &mut operation).await {
                Ok(Err(EngineError::Failed { message, .. })) if !self.circuit.check().await => {
                    return Err(away(message));
                }
                Ok(result) => return result,
                Err(_) if !self.circuit.check().await => return Err(away("no answer".into())),
                Err(_) => {}
            }
        }
    }

    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let created = self.call("create", SLOW, self.docker.create_container(Some(options), body)).await?;
        Ok(created.id)
    }

    /// The id of an image that is here.
    pub(super) async fn image_id(&self, name: &str) -> Result<String, EngineError> {
        let image = self.call("inspect image", QUICK, self.docker.inspect_image(name)).await?;
        image
            .id
            .ok_or_else(|| EngineError::Failed { what: "inspect image", message: "it has no id".to_owned() })
    }

    /// Before the start: attaching after it loses output.
    pub(super) async fn attach(&self, id: &str) -> Result<AttachContainerResults, EngineError> {
        let options =
            AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true);
        self.call("attach", QUICK, self.docker.attach_container(id, Some(options.build()))).await
    }

    pub(super) async fn start(&self, id: &str) -> Result<(), EngineError> {
        match self.call("start", SLOW, self.docker.start_container(id, None::<StartContainerOptions>)).await {
            // Somebody else removes it.
            Err(EngineError::Failed { what, message }) if message.contains(GOING) => {
                Err(EngineError::NotFound { what, message })
            }
            other => other,
        }
    }

    /// Changes limits of a container that runs.
    pub(super) async fn update(&self, id: &str, limits: ContainerUpdateBody) -> Result<(), EngineError> {
        self.call("update", QUICK, self.docker.update_container(id, limits)).await
    }

    pub(super) async fn kill(&self, id: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default().signal("KILL").build();
        self.call("kill", KILL, self.docker.kill_container(id, Some(options))).await
    }

    /// Freezes all processes of a container at once, whatever its first process does.
    pub(super) async fn pause(&self, id: &str) -> Result<(), EngineError> {
        self.call("pause", KILL, self.docker.pause_container(id)).await
    }

    /// Returns what a container has used so far.
    pub(super) async fn usage(&self, id: &str) -> Result<ContainerUsage, EngineError> {
        // Without `one_shot` the Engine waits a second for a second sample.
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut samples = self.docker.stats(id, Some(options));
        let no_sample = || Error::IOError { err: std::io::ErrorKind::UnexpectedEof.into() };
        let first = async { samples.next().await.unwrap_or_else(|| Err(no_sample())) };
        // Not by `call`: a failure costs a figure of one result, and says little of the Engine.
        let sample = within("stats", STATS, first).await?;
        let cpu_ns = sample.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|cpu| cpu.total_usage);
        let memory_peak_bytes = sample.memory_stats.and_then(|memory| memory.max_usage);
        Ok(ContainerUsage { cpu_us: cpu_ns.unwrap_or(0) / 1_000, memory_peak_bytes })
    }

    pub(super) async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        self.call("inspect", QUICK, self.docker.inspect_container(id, options)).await
    }

    /// Whether it runs or not, with its anonymous volumes. One that is gone already, or that somebody else removes, is
    /// fine: then the answer is false.
    pub(super) async fn remove(&self, id: &str) -> Result<bool, EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.call("remove", SLOW, self.docker.remove_container(id, Some(options))).await {
            Err(EngineError::NotFound { .. }) => Ok(false),
            // Somebody else asked for it before, such as a server that was killed since; the Engine carries it out.
            Err(EngineError::Failed { message, .. }) if message.contains(REMOVING) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// All containers that carry this label, running or not.
    pub(super) async fn list(&self, label: &str) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = std::collections::HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.call("list", QUICK, self.docker.list_containers(Some(options))).await
    }
}
