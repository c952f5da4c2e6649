//! What the Engine itself costs: one container with our whole profile, from its creation to its removal, straight
//! through the Engine's socket.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use execbox::config::Config;
use execbox::sandbox::docker::container_profile;
use futures::StreamExt as _;
use tokio::runtime::Handle;

use crate::contender::{Operation, timed};
use crate::{EXECBOX, Result};

/// The interpreter, in the image.
pub(crate) const PYTHON: &str = "/usr/bin/python3";
/// The program that does nothing.
pub(crate) const PASS: &str = "pass";
/// First user id: away from those of the servers that run beside it.
const UID: u32 = 20_900;
/// Label by which our own containers are found again.
const INSTANCE: &str = "execbox.instance";

/// An Engine, and the container that is made of it again and again.
pub(crate) struct EngineCycle {
    docker: Docker,
    body: ContainerCreateBody,
}

impl EngineCycle {
    /// Finds the Engine and the image.
    pub(crate) async fn prepare(image: &str) -> Result<Self> {
        let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
        let inspected = docker
            .inspect_image(image)
            .await
            .map_err(|error| format!("the image {image} is not there ({error}); run: make images"))?;
        let id = inspected.id.ok_or("an image without an id")?;
        let instance = uuid::Uuid::new_v4().to_string();
        let limits = Config::default().limit_policy().default;
        let mut body = container_profile(&instance, Path::new(EXECBOX), &id, UID, &limits).await?;
        body.entrypoint = Some(vec![PYTHON.to_owned()]);
        body.cmd = Some(vec!["-c".to_owned(), PASS.to_owned()]);
        Ok(Self { docker, body })
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(crate) fn body(&self) -> &ContainerCreateBody {
        &self.body
    }

    /// The same with a workspace of this size.
    pub(crate) async fn body_with_room(&self, mib: u64) -> Result<ContainerCreateBody> {
        let (_, instance) = self.label()?;
        let (image, mut config) = (self.body.image.as_deref().unwrap_or_default(), Config::default());
        config.limits.disk_mb = mib;
        Ok(container_profile(&instance, Path::new(EXECBOX), image, UID, &config.limit_policy().default)
            .await?)
    }

    /// By which our own containers are found again.
    pub(crate) fn label(&self) -> Result<(&'static str, String)> {
        let instance = self.body.labels.as_ref().and_then(|labels| labels.get(INSTANCE));
        Ok((INSTANCE, instance.ok_or("containers without our label")?.clone()))
    }

    pub(crate) fn caller(self: &Arc<Self>, slot: u32) -> Operation {
        let (engine, runtime) = (Arc::clone(self), Handle::current());
        timed(move || runtime.block_on(engine.run(slot)))
    }

    /// One cycle as slot `slot`: create, attach, start, wait for the end of its output, remove.
    async fn run(&self, slot: u32) -> Result<()> {
        let uid = UID + slot;
        let body = ContainerCreateBody { user: Some(format!("{uid}:{uid}")), ..self.body.clone() };
        let id = self.docker.create_container(None::<CreateContainerOptions>, body).await?.id;
        let options =
            AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true);
        let AttachContainerResults { mut output, input: _open } =
            self.docker.attach_container(&id, Some(options.build())).await?;
        self.docker.start_container(&id, None::<StartContainerOptions>).await?;
        if let Some(chunk) = output.next().await {
            return Err(format!("the raw cycle's program says: {}", chunk?).into());
        }
        self.remove(&id).await
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        Ok(self.docker.remove_container(id, Some(options)).await?)
    }

    /// Removes what a cycle that failed has left.
    pub(crate) async fn clean_up(&self) -> Result<()> {
        let (name, instance) = self.label()?;
        let label = format!("{name}={instance}");
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        for container in self.docker.list_containers(Some(options)).await? {
            self.remove(&container.id.unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// What was measured on, in a line.
    pub(crate) async fn machine(&self) -> Result<String> {
        let info = self.docker.info().await?;
        let text = |field: Option<String>| field.unwrap_or_else(|| "?".into());
        let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(format!(
            "{} processors ({}), Linux {}, Docker Engine {} (cgroup {}, {}), execbox {}",
            info.ncpu.unwrap_or_default(),
            model.map_or("unknown", |(_, model)| model),
            text(info.kernel_version),
            text(info.server_version),
            info.cgroup_version.map_or("?".into(), |version| format!("v{version}")),
            text(info.driver),
            env!("CARGO_PKG_VERSION"),
        ))
    }
}
