//! `execbox doctor`: what works here, and how to mend what does not.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::archive::ProjectWriter;
use crate::cli::failure::Failure;
use crate::cli::local::{self, Local};
use crate::cli::{engine, output};
use crate::config::Config;
use crate::execution::id::Tenant;
use crate::execution::intake::{Installs, LintMode, Script, Submission};
use crate::execution::service::Mode;
use crate::execution::spec::Stdin;
use crate::limits::RequestedLimits;
use crate::runner::probe::Outcome;
use crate::runtime::Catalogue;
use crate::sandbox::docker::{DockerSandbox, Reuse};

use self::finding::{Finding, Level};

mod engine_facts;
mod finding;

/// Check this machine: the Engine, its limits, the disk, and a real execution.
///
/// Ends with 0 only when the probe of the container profile and the execution passed.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: Config,
}

pub(super) fn doctor(args: Args) -> Result<ExitCode, Failure> {
    let runtime = super::tokio_runtime()?;
    let passed = runtime.block_on(examine(args.config));
    runtime.shutdown_background();
    passed.map(|passed| if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(config: Config) -> Result<bool, Failure> {
    let settings = settings(&config);
    show(&settings)?;
    let disk = disk(&config);
    show(&disk)?;
    let catalogue = engine::catalogue(&config)?;
    let sandbox = match engine::connect(&config).await {
        Ok(sandbox) => sandbox,
        Err(failure) => {
            let mend = "do what it says; where there is no Engine yet: run deploy/setup-engine.sh, or name one with \
                        --docker-host or DOCKER_HOST";
            show(&Finding::fail("engine", failure.message, mend))?;
            return Ok(false);
        }
    };
    match sandbox.facts().await {
        Ok(facts) => engine_facts::findings(&facts).iter().try_for_each(show)?,
        Err(error) => show(&Finding::fail("engine", error, "look at the log of dockerd"))?,
    }
    let profile = probe(&sandbox, &config).await;
    show(&profile)?;
    show(&reuse(&sandbox, &config).await)?;
    show(&installs(&config))?;
    show(&base(&sandbox, &catalogue).await)?;
    let execution = match hello(config, catalogue, sandbox).await {
        Ok(finding) => finding,
        Err(failure) => Finding::fail("execution", failure.message, "mend what is said above first"),
    };
    show(&execution)?;
    let whole = [&settings, &disk, &profile].iter().all(|finding| finding.level != Level::Fail);
    Ok(execution.level == Level::Ok && whole)
}

/// What `serve` refuses to start with.
fn settings(config: &Config) -> Finding {
    match config.check() {
        Ok(()) => Finding::ok("settings", "go together"),
        Err(why) => Finding::fail("settings", why, "serve refuses, too"),
    }
}

fn show(finding: &Finding) -> Result<(), Failure> {
    output::result(finding.to_string().as_bytes()).map_err(Failure::ours)
}

/// Uploads and artifacts need room, and so do images.
fn disk(config: &Config) -> Finding {
    const LITTLE: u64 = 2 << 30;
    let data_dir = &config.data_dir;
    // The data folder may not be there yet; what will hold it is.
    let existing = data_dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    if let Err(error) = write_in(existing) {
        let what = format!("{} can't be written: {error}", existing.display());
        return Finding::fail("disk", what, "make it writable, or name another --data-dir");
    }
    match nix::sys::statvfs::statvfs(existing) {
        Err(error) => {
            Finding::warn("disk", format!("{}: {error}", existing.display()), "name another --data-dir")
        }
        Ok(room) => {
            let free = room.blocks_available() * room.fragment_size();
            let what = format!("{} MiB free for {}", free >> 20, data_dir.display());
            if free < config.data_reserve_bytes() {
                let mend = "free some of it, or lower --data-reserve-mb: serve takes no new work with less";
                Finding::fail("disk", what, mend)
            } else if free < LITTLE {
                Finding::warn("disk", what, "make room, or name another --data-dir")
            } else {
                Finding::ok("disk", what)
            }
        }
    }
}

/// Writes a file and removes it.
fn write_in(folder: &Path) -> std::io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()
}

/// What `serve` demands before it serves.
async fn probe(sandbox: &DockerSandbox, config: &Config) -> Finding {
    let report = match sandbox.probe(&config.limit_policy().default, Reuse::Never).await {
        Ok(report) => report,
        Err(error) => {
            return Finding::fail("probe", error, "mend what is said above first; serve refuses, too");
        }
    };
    if let Err(worked) = report.require() {
        return Finding::fail("probe", worked, "serve refuses until nothing of it works");
    }
    let what = format!("{} forbidden calls and paths are refused", report.that(Outcome::Refused).count());
    let unknown: Vec<_> = report.that(Outcome::Unknown).map(|row| row.name.as_str()).collect();
    if unknown.is_empty() {
        return Finding::ok("probe", what);
    }
    let mend = "look whether the OCI runtime is to blame; the limits that the Engine was given are in force as it says";
    Finding::warn("probe", format!("{what}; this container does not tell of: {}", unknown.join("; ")), mend)
}

/// Which setting of --reuse is in force with these settings, and why.
async fn reuse(sandbox: &DockerSandbox, config: &Config) -> Finding {
    let wanted = config.containers.reuse;
    match (wanted, sandbox.why_no_reuse(&config.limit_policy().default).await) {
        (Reuse::Never, None) => Finding::ok(
            "reuse",
            "never is in force: each execution gets its own container; --reuse tenant works here, too",
        ),
        (Reuse::Never, Some(why)) => Finding::ok(
            "reuse",
            format!(
                "never is in force: each execution gets its own container; --reuse tenant is not possible here: {why}"
            ),
        ),
        (Reuse::Tenant, None) => {
            Finding::ok("reuse", "tenant is in force: a container serves many executions of one tenant")
        }
        (Reuse::Tenant, Some(why)) => Finding::warn(
            "reuse",
            format!("never is in force, for --reuse tenant is not possible here: {why}"),
            "allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone; with \
             AppArmor: kernel.apparmor_restrict_unprivileged_userns and mounts in docker-default), or leave --reuse never",
        ),
    }
}

/// Whether requests may ask for packages.
fn installs(config: &Config) -> Finding {
    if let Err(why) = config.check_installs() {
        return Finding::fail("packages", why, "serve refuses, too");
    }
    match config.packages.installs {
        Installs::Off => {
            Finding::ok("packages", "requests may not ask for any; --installs packages allows it")
        }
        Installs::Packages => Finding::ok("packages", "those that are built already are installed"),
        Installs::Code if config.installs().network.is_none() => Finding::ok(
            "packages",
            "callers' code runs in containers that reach public addresses, through a guard",
        ),
        Installs::Code => Finding::warn(
            "packages",
            format!(
                "callers' code runs in containers with the network `{}`",
                config.packages.install_network
            ),
            "keep metadata services and private hosts out of its reach (docs/dependencies.md), or leave \
             --install-network guarded",
        ),
    }
}

/// Where a missing image would come from.
async fn base(sandbox: &DockerSandbox, catalogue: &Catalogue) -> Finding {
    let mut missing = Vec::new();
    for runtime in catalogue.runtimes() {
        if !sandbox.image_state(runtime).await.is_ok_and(|state| state.size.is_some()) {
            missing.push(runtime.name.as_str());
        }
    }
    if missing.is_empty() {
        return Finding::ok("images", "all are built");
    }
    let what = format!("not built yet: {}", missing.join(", "));
    let bootstrap = std::process::Command::new("mmdebstrap").arg("--version").output();
    if bootstrap.is_ok_and(|ran| ran.status.success()) {
        return Finding::ok("images", format!("{what}; their base can be pulled, or made with mmdebstrap"));
    }
    let mend = "the base must be pulled on first use; where that is not possible, install mmdebstrap";
    Finding::warn("images", what, mend)
}

/// One program through the whole path, in the shell: it has the smallest image.
async fn hello(config: Config, catalogue: Catalogue, sandbox: DockerSandbox) -> Result<Finding, Failure> {
    let shell = catalogue.resolve("bash").map_err(Failure::usage)?;
    output::note("running a program; the first time its image is built");
    let local = Local::new(config, catalogue)?;
    let mut project = ProjectWriter::new(&local.spool(), local.archive_limits()).map_err(Failure::ours)?;
    let program = b"echo hello\n";
    project.file("hello.sh", program.len() as u64, false).map_err(Failure::ours)?;
    project.data(program).map_err(Failure::ours)?;
    let spec = local.accept(Submission {
        project: project.finish().map_err(Failure::ours)?,
        language: Some(shell.name.clone()),
        entrypoint: Some("hello.sh".into()),
        args: None,
        env: Vec::new(),
        stdin: Stdin::empty(),
        limits: RequestedLimits::default(),
        eval_last_expr: false,
        script: Script::default(),
        artifacts: Some(Vec::new()),
        labels: std::collections::BTreeMap::new(),
        lint: LintMode::Off,
        notices: Vec::new(),
    })?;
    let service = local.start(sandbox).await?;
    let id = service.submit(spec, Mode::Sync, None).await.map_err(Failure::ours)?.id;
    let execution = service.wait(&Tenant::local(), id, None).await.map_err(Failure::ours)?;
    local::stop(&service).await;
    let read = execution.and_then(|it| Some((it.finished?, it.output.stdout.in_memory()?.clone())));
    let Some((finished, stdout)) = read else {
        return Err(Failure::ours("the execution was forgotten before it was read"));
    };
    if stdout.as_ref() == b"hello\n" && finished.outcome.exit_code == 0 {
        let what = format!("a program ran in {} ms, its sandbox included", finished.duration_us / 1000);
        return Ok(Finding::ok("execution", what));
    }
    let why = finished.outcome.error.clone().unwrap_or_else(|| format!("it printed {:?}", stdout.as_ref()));
    Ok(Finding::fail("execution", why, "run it again with EXECBOX_LOG=debug execbox serve, and read the log"))
}
