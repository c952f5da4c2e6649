//! The interpreter without a container, in the root file system that its image has: fork, exec, wait.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::Result;
use crate::contender::Operation;
use crate::engine_cycle::{PASS, PYTHON};

/// First argument of this program when it is to be the parent of interpreters.
pub(crate) const ARGUMENT: &str = "bare-interpreters";

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

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts interpreters, one after the other, from a small process of its own.
    pub(crate) fn caller(&self) -> Result<Operation> {
        let mut parent = Parent::start(self.path())?;
        Ok(Box::new(move || parent.run()))
    }
}

/// A process that has the image's root, and starts an interpreter for each line that it is given.
struct Parent {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Parent {
    fn start(root: &Path) -> Result<Self> {
        let this = std::env::current_exe()?;
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new(this)
        } else {
            let mut command = Command::new("unshare");
            command.arg("--map-root-user").arg(this);
            command
        };
        command.arg(ARGUMENT).arg(root).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take().ok_or("a process without an input")?;
        let output = BufReader::new(process.stdout.take().ok_or("a process without an output")?);
        Ok(Self { process, input, output })
    }

    fn run(&mut self) -> Result<Duration> {
        self.input.write_all(b"\n")?;
        let mut nanos = String::new();
        self.output.read_line(&mut nanos)?;
        let nanos = nanos.trim().parse().map_err(|_| "the parent of bare interpreters ended")?;
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What that process does, until its input ends.
pub(crate) fn serve(root: &str) -> Result<()> {
    // The image's own /dev is empty.
    let null = File::open("/dev/null")?;
    nix::unistd::chroot(root)?;
    nix::unistd::chdir("/")?;
    let mut output = std::io::stdout();
    for line in std::io::stdin().lines() {
        line?;
        let began = Instant::now();
        let mut command = Command::new(PYTHON);
        command.args(["-c", PASS]).env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
        let status = command.env("PATH", "/usr/bin:/bin").stdin(null.try_clone()?).status()?;
        let took = began.elapsed();
        if !status.success() {
            return Err(format!("the bare interpreter: {status}").into());
        }
        writeln!(output, "{}", took.as_nanos())?;
    }
    Ok(())
}

async fn unpack(docker: &Docker, id: &str, folder: &Path) -> Result<()> {
    // Device files need root, and nothing here needs them.
    let mut tar = tokio::process::Command::new("tar");
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
