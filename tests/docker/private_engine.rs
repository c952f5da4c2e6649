//! An Engine of the test's own, to be stopped and killed: its own socket, folders and, so that it leaves the first one's
//! bridge alone, network namespace. Needs root, as the Engine does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::{API_DEFAULT_VERSION, Docker, body_try_stream};
use futures::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine;

/// How long an Engine may take to come up, or to go.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct PrivateEngine {
    folder: tempfile::TempDir,
    flags: Vec<&'static str>,
    process: Child,
}

/// Flags of an Engine whose containers have no network.
const NO_NETWORK: [&str; 2] = ["--bridge=none", "--iptables=false"];
/// Brings up loopback in a new network namespace, by nothing but what `unshare` comes with. 9 is "up" and "loopback".
const RAISE_LOOPBACK: &str = "mount -t sysfs sysfs /sys && echo 0x9 >/sys/class/net/lo/flags";

impl PrivateEngine {
    /// With these flags beside those that keep it apart.
    pub async fn start(flags: &'static [&'static str]) -> Self {
        Self::start_as([&NO_NETWORK, flags].concat()).await
    }

    /// With a bridge, in its own network namespace, and loopback: [`Self::inside`] runs whoever is to reach containers.
    pub async fn start_with_bridge() -> Self {
        let engine = Self::start_as(Vec::new()).await;
        let raised = engine.inside("unshare").args(["--mount", "sh", "-c", RAISE_LOOPBACK]).status().unwrap();
        assert!(raised.success(), "loopback of the Engine's namespace stays down");
        engine
    }

    async fn start_as(flags: Vec<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(folder.path(), &flags);
        let engine = Self { folder, flags, process };
        engine.answers().await;
        engine
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// For `--docker-host`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A command in the Engine's network namespace that uses this Engine.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process.id())).arg("--").arg(program);
        command.env("DOCKER_HOST", self.host());
        command
    }

    pub fn docker(&self) -> Docker {
        Docker::connect_with_unix(&self.host(), 30, API_DEFAULT_VERSION).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    /// Waits for the end of a process that was told to end, and starts another on the same folders.
    pub async fn start_again(&mut self) {
        assert!(self.ended(), "the Engine did not end");
        // A killed Engine takes its containerd along. Where nobody reaps that, its pid looks alive to the next one.
        std::fs::remove_file(self.folder.path().join("exec/containerd/containerd.pid")).ok();
        self.process = spawn(self.folder.path(), &self.flags);
        self.answers().await;
    }

    #[allow(clippy::disallowed_methods, reason = "drop can't await")]
    fn ended(&mut self) -> bool {
        let began = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// containerd and its shims: their command lines name our folder.
    fn processes(&self) -> Vec<Pid> {
        let own = self.folder.path().display().to_string();
        let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&format!("{own}/exec")).then_some(Pid::from_raw(pid))
        });
        pids.collect()
    }

    async fn answers(&self) {
        let began = Instant::now();
        while !self.socket().exists() || self.docker().ping().await.is_err() {
            if began.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(12).collect();
                panic!(
                    "the private Engine does not come up (it needs root); its log, last line first: {last:#?}"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Copies an image over from the Engine that the other tests use.
    pub async fn load(&self, image: &str) {
        let first = engine::engine().await;
        let exported = first.export_image(image).map(|piece| piece.map_err(std::io::Error::other));
        let options = bollard::query_parameters::ImportImageOptionsBuilder::default().build();
        let (docker, body) = (self.docker(), body_try_stream(exported));
        let mut steps = Box::pin(docker.import_image(options, body, None));
        while let Some(step) = steps.next().await {
            step.unwrap();
        }
    }
}

fn spawn(folder: &Path, flags: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    Command::new("unshare")
        .args(["--net", "dockerd"])
        .args(["--host", &format!("unix://{}", at("engine.sock"))])
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("unshare and dockerd must be installed")
}

impl Drop for PrivateEngine {
    /// Nothing of it may stay, not even after a failed test.
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        self.signal(Signal::SIGTERM);
        if !self.ended() {
            self.process.kill().ok();
            self.process.wait().ok();
        }
        for pid in self.processes() {
            kill(pid, Signal::SIGKILL).ok();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.folder.path().display().to_string();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for target in targets.filter(|target| target.starts_with(&own)) {
            Command::new("umount").args(["--lazy", target]).status().ok();
        }
    }
}
