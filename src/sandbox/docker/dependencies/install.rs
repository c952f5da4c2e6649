//! One install: a container like any other, but for its network and its workspace, which is the volume to be filled. Our
//! runner in it holds its limits, and only its word makes the volume whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::{ContainerCreateBody, Mount};
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::archive::Project;
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::spec::{self, ExecutionSpec, Stdin};
use crate::limits::MIB;
use crate::runner::frame::{self, DATA_CHUNK, encode, encode_message};
use crate::runner::message::{FileHead, Phase, WatchSpec};
use crate::runtime::{Command, Runtime, Sources};
use crate::sandbox::docker::Inner;
use crate::sandbox::docker::dependencies::{Installed, Whole, volumes};
use crate::sandbox::docker::keeper::{Kind, Warm};
use crate::sandbox::docker::profile::{Class, SMALL_BYTES};
use crate::sandbox::docker::reuse::Reuse;
use crate::sandbox::docker::session;
use crate::sandbox::docker::workspace_volume::Placement;
use crate::sandbox::{Events, InstallReport, Job, Outcome, Reason, Report, SandboxError};

/// Where the installer finds the certificates that it is to trust: in a folder that no program gets to read.
pub(super) const CERTIFICATES: &str = "/work/.execbox/certificates.pem";
/// The same from the workspace.
const CERTIFICATES_FILE: &str = ".execbox/certificates.pem";
/// Runs where only commands are to be run.
const NOTHING: &str = "/bin/true";
const SHELL: &str = "/bin/sh";
/// Bytes of the log that are kept: its end.
const LOG: usize = 64 << 10;
/// The end of it that an error has.
const TAIL: usize = 1_000;

/// What is to be installed.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) key: String,
    /// The execution that asked first, for the log.
    pub(super) id: ExecutionId,
    pub(super) tenant: Tenant,
    pub(super) runtime: Arc<Runtime>,
    pub(super) dependencies: spec::Dependencies,
}

/// A volume that is not whole: it goes unless it becomes so.
struct Half<'a> {
    inner: &'a Arc<Inner>,
    volume: Option<String>,
}

impl Drop for Half<'_> {
    fn drop(&mut self) {
        if let Some(volume) = self.volume.take() {
            self.inner.remove_dependencies(volume);
        }
    }
}

impl Inner {
    /// Makes a volume and fills it.
    pub(super) async fn install(
        self: &Arc<Self>,
        order: &Order,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Installed, SandboxError> {
        let tools = order.runtime.installer();
        let image = self.images.ensure(&tools, say).await?;
        say("installing packages (once; later executions reuse them)");
        let origin = &self.dependencies.origin;
        let name = volumes::create(&self.engine, &self.ownership, origin, &order.key).await?;
        let mut half = Half { inner: self, volume: Some(name.clone()) };
        let limits = self.dependencies.config.limits;
        let kind = Kind {
            runtime: tools,
            own_image: None,
            image,
            class: Class::of(&limits, Reuse::Never, Placement::Volume { tmp_bytes: SMALL_BYTES }),
            dependencies: None,
        };
        let scratch = tempfile::tempdir()?;
        let guard = self.guard().await?;
        let job = self.install_job(order, self.dependencies.proxy_by(guard.as_deref()), &scratch).await?;
        let say = |line: &str| say(&self.dependencies.without_registries(line));
        let log = Log { say: &say, kept: Mutex::default() };
        let network = match &guard {
            Some(guard) => guard.network.clone(),
            None => self.dependencies.config.network.clone().unwrap_or_default(),
        };
        let volume = name.clone();
        let made = self.make_from(&kind, move |body| opened(body, &volume, network)).await;
        if made.is_err() {
            // Its network may be what is missing.
            self.close_guard().await;
        }
        let mut warm = made?;
        let (report, bytes) = self.converse_with(&mut warm, &job, &log).await?;
        // The volume is in use until then.
        drop(warm);
        let mut install = InstallReport {
            log: self.dependencies.without_registries(&log.end(LOG)),
            exit_code: Some(report.outcome.exit_code),
            duration_us: report.timings.compile_us + report.timings.run_us,
        };
        if let Some(why) = failure(&report.outcome, &limits) {
            let tail = tail(&install.log);
            let refused =
                if report.outcome.reason == Reason::CompileFailed { beyond(&install.log) } else { "" };
            let error = Some(format!("{why}{refused}. The end of the log:\n{tail}"));
            let exit_code = report.outcome.exit_code;
            let outcome = Outcome { reason: Reason::InstallFailed, exit_code, error };
            return Ok(Installed::Failed(outcome, install));
        }
        let bytes = match self.compile_packages(order, &kind, &name, &log).await? {
            Some((took_us, all_bytes)) => {
                install.log = self.dependencies.without_registries(&log.end(LOG));
                install.duration_us += took_us;
                all_bytes
            }
            None => bytes,
        };
        volumes::mark(&self.engine, origin, &order.key, &name, bytes).await?;
        half.volume = None;
        Ok(Installed::Whole(Arc::new(Whole::new(name, bytes, volumes::today())), install))
    }

    /// Has packages compiled for all programs to come, where the language says how: in a container as the installer's was,
    /// but without a network. How long it took, and what the volume holds then. It may fail: what an installer brought does
    /// without it.
    async fn compile_packages(
        self: &Arc<Self>,
        order: &Order,
        kind: &Kind,
        volume: &str,
        log: &Log<'_>,
    ) -> Result<Option<(u64, u64)>, SandboxError> {
        let install = order.runtime.install.as_ref();
        let asked = install.filter(|it| !it.compile.is_empty() && !order.dependencies.files.is_empty());
        let Some(install) = asked else { return Ok(None) };
        (log.say)("compiling packages (once; later executions reuse them)");
        let mut warm = self.make_from(kind, |body| closed(body, volume)).await?;
        let scratch = tempfile::tempdir()?;
        let env = order.runtime.env.clone().into_iter().collect();
        let command = Command { compile: None, run: install.compile.clone(), env };
        let job = self.job(order, Project::restored(&[], 0, scratch.path())?, command, &scratch);
        let (report, bytes) = self.converse_with(&mut warm, &job, log).await?;
        drop(warm);
        if failure(&report.outcome, &job.spec.limits).is_some() {
            let why = report.outcome.reason.as_str();
            log.take(&format!("the packages were not compiled ({why}); each program compiles them\n").into());
        }
        Ok(Some((report.timings.run_us, bytes)))
    }

    async fn converse_with(
        &self,
        warm: &mut Warm,
        job: &Job,
        log: &Log<'_>,
    ) -> Result<(Report, u64), SandboxError> {
        let began = Instant::now();
        let limits = &job.spec.limits;
        let mut start = self.start_message(job);
        start.shared = true;
        start.watch = Some(WatchSpec {
            bytes: limits.disk_bytes,
            entries: limits.disk_inodes,
            reserve: self.disk.reserve,
        });
        let never = CancellationToken::new();
        let conversation = session::converse(&mut warm.streams, &start, job, log, &never).await?;
        let bytes = conversation.disk_bytes();
        Ok((self.report(&warm.container, job, began, &conversation).await?, bytes))
    }

    /// An execution of the installer, over the files that say what to install.
    async fn install_job(
        &self,
        order: &Order,
        proxy: Option<String>,
        scratch: &tempfile::TempDir,
    ) -> Result<Job, SandboxError> {
        let Order { runtime, dependencies, .. } = order;
        let certificates = match &self.dependencies.ca_bundle {
            Some(path) => Some(tokio::fs::read(path).await?),
            None => None,
        };
        let project = project(dependencies, certificates.as_deref(), scratch)?;
        let installer = runtime.install.as_ref().filter(|_| !dependencies.files.is_empty());
        let run = installer.map_or_else(|| vec![NOTHING.to_owned()], |it| it.command(dependencies.code));
        let proxy = proxy.as_deref();
        let env = match &runtime.install {
            Some(install) => {
                let sources = self.dependencies.sources(&install.registry);
                install.environment(&Sources { proxy, ..sources })
            }
            None => {
                let own = runtime.env.iter().map(|(name, value)| (name.clone(), value.clone()));
                let proxies = ["http_proxy", "https_proxy"].into_iter();
                own.chain(proxies.filter_map(|name| Some((name.to_owned(), proxy?.to_owned())))).collect()
            }
        };
        let command = Command { compile: commands(&dependencies.pre_commands), run, env };
        Ok(self.job(order, project, command, scratch))
    }

    fn job(&self, order: &Order, project: Project, command: Command, scratch: &tempfile::TempDir) -> Job {
        let spec = ExecutionSpec {
            tenant: order.tenant.clone(),
            share: None,
            runtime: Arc::clone(&order.runtime),
            project,
            command,
            stdin: Stdin::empty(),
            limits: self.dependencies.config.limits,
            artifacts: Some(Vec::new()),
            dependencies: None,
            image: None,
            labels: BTreeMap::new(),
            notices: Vec::new(),
            beside: Vec::new(),
            memory: None,
        };
        let artifact_dir = scratch.path().to_owned();
        let slot = Arc::new(CancellationToken::new().drop_guard());
        Job { id: order.id, attempt: 1, spec: Arc::new(spec), artifact_dir, slot }
    }
}

impl super::Dependencies {
    /// Where the operator's registry is, is nobody's business.
    fn without_registries(&self, log: &str) -> String {
        self.config.registries.values().fold(log.to_owned(), |log, url| {
            let host = url.split("://").nth(1).unwrap_or(url).split('/').next().unwrap_or(url);
            let host = host.rsplit('@').next().unwrap_or(host);
            log.replace(url, "(the registry)").replace(host, "(the registry)")
        })
    }
}

/// What is different from the profile of programs where packages are installed.
fn opened(mut body: ContainerCreateBody, volume: &str, network: String) -> ContainerCreateBody {
    body.network_disabled = Some(false);
    if let Some(host) = &mut body.host_config {
        host.network_mode = Some(network);
    }
    filling(body, [volumes::for_installer(volume)])
}

/// The same where they are compiled: they are found where programs find them.
fn closed(body: ContainerCreateBody, volume: &str) -> ContainerCreateBody {
    filling(body, [volumes::for_installer(volume), volumes::for_programs(volume)])
}

fn filling<const N: usize>(mut body: ContainerCreateBody, volumes: [Mount; N]) -> ContainerCreateBody {
    if let Some(host) = &mut body.host_config {
        let mounts = host.mounts.take().unwrap_or_default().into_iter();
        let others = mounts.filter(|mount| mount.target.as_deref() != Some(crate::runner::WORKSPACE));
        host.mounts = Some(others.chain(volumes).collect());
    }
    body
}

fn commands(commands: &[String]) -> Option<Vec<String>> {
    let script = || commands.iter().map(|command| format!("{command}\n")).collect();
    (!commands.is_empty()).then(|| vec![SHELL.to_owned(), "-ec".to_owned(), script()])
}

/// The files as the runner takes them. They are ours, also where no caller's project may have any.
fn project(
    dependencies: &spec::Dependencies,
    certificates: Option<&[u8]>,
    scratch: &tempfile::TempDir,
) -> std::io::Result<Project> {
    let files = dependencies.files.iter().map(|(name, text)| (name.as_str(), text.as_bytes()));
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for (path, content) in files.chain(certificates.map(|content| (CERTIFICATES_FILE, content))) {
        let size = content.len() as u64;
        let head = FileHead { path: path.to_owned(), size, executable: false };
        encode_message(frame::Kind::File, &head, &mut frames).map_err(std::io::Error::other)?;
        content.chunks(DATA_CHUNK).for_each(|piece| encode(frame::Kind::Data, piece, &mut frames));
        bytes += size;
    }
    Project::restored(&frames, bytes, scratch.path())
}

/// What commands can't do, where their output tells that they tried it.
fn beyond(log: &str) -> &'static str {
    let signs = [
        "ermission denied",
        "are you root",
        "Read-only file system",
        "not permitted",
        "sudo: ",
        "su: ",
        "must be root",
        "apt-get: not found",
        "apt: not found",
        "apk: not found",
        "yum: not found",
    ];
    if signs.iter().any(|sign| log.contains(sign)) {
        "; they run as an ordinary user on a read-only system, so nothing can be installed into it (apt, sudo): ask for packages \
         of the language, or name an image that has the rest (`docker_image`)"
    } else {
        ""
    }
}

/// Why nothing was installed, in the operator's terms: no field of a request raises these limits.
fn failure(outcome: &Outcome, limits: &crate::limits::Limits) -> Option<String> {
    let says = |what: String| Some(format!("the packages could not be installed: {what}"));
    match (outcome.reason, outcome.exit_code) {
        (Reason::Exited, 0) => None,
        (Reason::Exited, code) => says(format!("the installer ended with exit code {code}")),
        (Reason::CompileFailed, code) => says(format!("pre_commands failed with exit code {code}")),
        (Reason::TimedOut, _) => says(format!(
            "it took more than the {} s that an install has here (--install-timeout-seconds)",
            limits.timeout_ms / 1000
        )),
        (Reason::OutOfMemory, _) => says(format!(
            "it needed more than the {} MiB of memory that an install has here (--install-memory-mb)",
            limits.memory_bytes / MIB
        )),
        (Reason::DiskLimit, _) => says(format!(
            "they take more than the {} MiB or {} files that an install has here (--install-disk-mb)",
            limits.disk_bytes / MIB,
            limits.disk_inodes
        )),
        (Reason::OutputLimit, _) => says("the installer wrote without end".to_owned()),
        (reason, _) => says(format!("the installer did not end well ({})", reason.as_str())),
    }
}

/// The last lines, at most so much of them.
fn tail(log: &str) -> &str {
    let log = log.trim_end();
    let start = log.ceil_char_boundary(log.len().saturating_sub(TAIL));
    let cut = &log[start..];
    if start == 0 { cut } else { cut.split_once('\n').map_or(cut, |(_, whole)| whole) }
}

/// Takes what the installer writes.
struct Log<'a> {
    say: &'a (dyn Fn(&str) + Send + Sync),
    kept: Mutex<Vec<u8>>,
}

impl Log<'_> {
    fn take(&self, bytes: &Bytes) {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
            (self.say)(line);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        if kept.len() > 2 * LOG {
            let surplus = kept.len() - LOG;
            kept.drain(..surplus);
        }
    }

    fn end(&self, most: usize) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept[kept.len().saturating_sub(most)..]).into_owned()
    }
}

impl Events for Log<'_> {
    fn progress(&self, message: &str) {
        (self.say)(message);
    }
    fn phase(&self, _: Phase) {}
    fn stdout(&self, bytes: Bytes) {
        self.take(&bytes);
    }
    fn stderr(&self, bytes: Bytes) {
        self.take(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_need_root_are_told_what_helps() {
        for log in [
            "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)",
            "touch: cannot touch '/usr/x': Read-only file system",
            "/bin/sh: 1: sudo: not found\nsudo: not found",
        ] {
            assert!(beyond(log).contains("ordinary user") && beyond(log).contains("docker_image"), "{log}");
        }
        assert_eq!(beyond("make: *** No rule to make target"), "");
    }

    #[test]
    fn an_error_has_the_last_whole_lines_of_the_log() {
        assert_eq!(tail("a\nb\n"), "a\nb");
        let log: String = (0..1_000).map(|number| format!("line {number}\n")).collect();
        let end = tail(&log);
        assert!(end.len() <= TAIL && end.starts_with("line ") && end.ends_with("line 999"), "{end}");
        assert!(tail(&"\u{1f600}".repeat(TAIL)).len() <= TAIL);
    }

    #[test]
    fn commands_run_in_one_shell_that_ends_at_the_first_that_fails() {
        assert_eq!(commands(&[]), None);
        let both = commands(&["cd x".into(), "make".into()]).unwrap();
        assert_eq!(both, ["/bin/sh", "-ec", "cd x\nmake\n"]);
    }
}
