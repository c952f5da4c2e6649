//! The Engine's exec into a container that lives: what is left of the Engine's cost when the container is kept.

use std::sync::Arc;

use bollard::Docker;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use futures::StreamExt as _;
use tokio::runtime::Handle;

use crate::Result;
use crate::contender::{Operation, timed};
use crate::engine_cycle::{EngineCycle, PASS, PYTHON};

/// Lives until it is removed.
const SLEEP: [&str; 2] = ["/bin/sleep", "infinity"];

/// Its container goes with those of `engine`.
pub(crate) async fn start(engine: &EngineCycle) -> Result<Arc<str>> {
    let body = ContainerCreateBody {
        entrypoint: Some(SLEEP.map(str::to_owned).to_vec()),
        cmd: None,
        ..engine.body().clone()
    };
    let docker = engine.docker();
    let id = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
    docker.start_container(&id, None::<StartContainerOptions>).await?;
    Ok(id.into())
}

pub(crate) fn caller(engine: &EngineCycle, container: &Arc<str>) -> Operation {
    let (docker, id, runtime) = (engine.docker().clone(), Arc::clone(container), Handle::current());
    timed(move || runtime.block_on(exec(&docker, &id)))
}

async fn exec(docker: &Docker, id: &str) -> Result<()> {
    let options = ExecConfig {
        cmd: Some([PYTHON, "-c", PASS].map(str::to_owned).to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(id, options).await?.id;
    match docker.start_exec(&exec, None).await? {
        StartExecResults::Detached => Err("an exec without its output".into()),
        StartExecResults::Attached { mut output, .. } => match output.next().await {
            None => Ok(()),
            Some(chunk) => Err(format!("the exec's program says: {}", chunk?).into()),
        },
    }
}
