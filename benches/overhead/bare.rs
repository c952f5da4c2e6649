//! The interpreter without a container, in the root file system that its image has.

use std::process::Stdio;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::Result;
use crate::engine_cycle::{PASS, PYTHON};

/// An image's root file system in a folder that goes with it.
pub(crate) struct RootFs(tempfile::TempDir);

impl RootFs {
    /// Unpacks the image. It is our own, not a stranger's.
    pub(crate) async fn export(docker: &Docker, image: &str) -> Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (image, cmd) = (Some(image.to_owned()), Some(vec!["never-started".to_owned()]));
        let body = ContainerCreateBody { image, cmd, ..Default::default() };
        let id = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
        let unpacked = unpack(docker, &id, folder.path()).await;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        docker.remove_container(&id, Some(options)).await?;
        unpacked.map(|()| Self(folder))
    }

    /// Starts the interpreter for a program that does nothing, and waits for its end.
    pub(crate) async fn start_interpreter(&self) -> Result<()> {
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new("chroot")
        } else {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "chroot"]);
            command
        };
        command.arg(self.0.path()).args([PYTHON, "-c", PASS]).kill_on_drop(true);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("PYTHONDONTWRITEBYTECODE", "1");
        let status = command.stdin(Stdio::null()).status().await?;
        if status.success() { Ok(()) } else { Err(format!("the bare interpreter: {status}").into()) }
    }
}

async fn unpack(docker: &Docker, id: &str, folder: &std::path::Path) -> Result<()> {
    // Device files need root, and nothing here needs them.
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--exclude=dev/*", "--directory"]).arg(folder);
    let mut tar = tar.stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut input = tar.stdin.take().ok_or("tar without an input")?;
    let mut chunks = docker.export_container(id);
    while let Some(chunk) = chunks.next().await {
        input.write_all(&chunk?).await?;
    }
    drop(input);
    let status = tar.wait().await?;
    if status.success() { Ok(()) } else { Err(format!("unpacking the image: {status}").into()) }
}
