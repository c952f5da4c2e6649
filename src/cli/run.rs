//! `execbox run`: one project, here and now, as its interpreter would run it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use bytes::Bytes;
use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli::failure::{Failure, OUR_FAILURE};
use crate::cli::local::{self, Local};
use crate::cli::pack::{self, Packed};
use crate::cli::packages::PackageArgs;
use crate::cli::script::ScriptArgs;
use crate::cli::signals::Signals;
use crate::cli::{artifacts, engine, output};
use crate::config::{Config, LimitConfig};
use crate::execution::id::Tenant;
use crate::execution::intake::{self, LintMode, Submission};
use crate::execution::live::{Channel, Follower, LiveEvent};
use crate::execution::service::{Mode, Service, Submitted};
use crate::execution::spec::Stdin;
use crate::execution::state::{Execution, Finished};
use crate::limits::RequestedLimits;
use crate::runner::frame::DATA_CHUNK;
use crate::sandbox::Reason;

/// Names of the settings that this command shows beside the Engine's.
pub(super) const SETTINGS: [&str; 21] = [
    "timeout_seconds",
    "compile_timeout_seconds",
    "memory_mb",
    "disk_mb",
    "disk_inodes",
    "cpus",
    "pids",
    "output_kb",
    "artifact_mb",
    "artifact_count",
    "archive_mb",
    "archive_entries",
    "installs",
    "allow_unpinned",
    "registry",
    "install_network",
    "install_timeout_seconds",
    "install_memory_mb",
    "install_disk_mb",
    "dependencies_mb",
    "dependencies_days",
];

const EXIT_CODES: &str = "\
Exit code:
  the program's own; 128 + n after signal n
  the compiler's     when it refuses the project
  124                its time was over
  137                out of memory
  153                it wrote more output than may be kept
  130, 143           Ctrl-C or SIGTERM: the container is killed first
  2                  the command line or the project is wrong
  125                execbox itself failed";

/// Run one project here and now, without a server.
///
/// Standard input, output and errors are the program's, live. A folder is sent without what .gitignore names, and may say
/// in its execbox.toml what is not given here.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// A file, a folder, or `-` for a program on standard input (with --language).
    #[arg(value_name = "FILE|DIR|-")]
    project: PathBuf,

    /// Arguments of the program, after `--`.
    #[arg(last = true, value_name = "ARGS")]
    pub(super) args: Vec<String>,

    /// Name of a runtime, an alias, or `name@version`. Default: found from the file or the project.
    #[arg(long, short, value_name = "NAME")]
    language: Option<String>,

    /// File of the folder to run. Default: found from the project.
    #[arg(long, value_name = "PATH")]
    entrypoint: Option<String>,

    /// Write the files that the program leaves into this folder.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Say at the end what is worth a word in the sources: advice, which changes nothing of the run.
    #[arg(long)]
    lint: bool,

    /// Environment variable of the program. May be given many times.
    #[arg(long, short, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,

    #[command(flatten)]
    script: ScriptArgs,

    #[command(flatten)]
    packages: PackageArgs,

    #[command(flatten)]
    pub(super) config: Config,

    /// Names of the settings that somebody gave, by flag or environment.
    #[arg(skip)]
    given: BTreeSet<String>,
}

impl Args {
    /// Takes note of what was given, as against what is a default: a project may say it otherwise.
    pub(super) fn note_given(&mut self, matches: &ArgMatches) {
        let is_given = |id: &&clap::Id| {
            matches!(
                matches.value_source(id.as_str()),
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
        };
        self.given = matches.ids().filter(is_given).map(|id| id.as_str().to_owned()).collect();
    }

    /// The limits that were given.
    fn given_limits(&self) -> RequestedLimits {
        let all = requested(&self.config.limits);
        let given = |name: &str, value: Option<f64>| value.filter(|_| self.given.contains(name));
        RequestedLimits {
            timeout_seconds: given("timeout_seconds", all.timeout_seconds),
            compile_timeout_seconds: given("compile_timeout_seconds", all.compile_timeout_seconds),
            memory_mb: given("memory_mb", all.memory_mb),
            disk_mb: given("disk_mb", all.disk_mb),
            cpus: given("cpus", all.cpus),
            pids: given("pids", all.pids),
            output_kb: given("output_kb", all.output_kb),
        }
    }
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be like NAME=value".to_owned()),
    }
}

/// Suits the shared settings to this command: nobody polls a result here, so more output may pass.
pub(super) fn adapt(command: clap::Command) -> clap::Command {
    command
        .mut_arg("timeout_seconds", |arg| arg.visible_alias("timeout"))
        .mut_arg("output_kb", |arg| arg.default_value("65536"))
        .mut_args(|arg| match arg.get_help_heading() {
            Some(heading) if heading.starts_with("Limits") => arg.help_heading("Limits"),
            _ => arg,
        })
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut config = args.config.clone();
    lift_ceilings(&mut config.limits);
    args.packages.allow(&mut config);
    // Defaults are not checked later, and somebody may have set those in a file.
    config.limit_policy().resolve(&requested(&config.limits)).map_err(Failure::usage)?;
    config.check_installs().map_err(Failure::usage)?;
    let policy = config.install_policy();
    let local = Local::new(config, engine::catalogue(&args.config)?)?;
    let packed = packed(&args, &local)?;
    let spec = local.accept(submission(&args, packed)?)?;
    let spec = local::checked(intake::add_dependencies(spec, args.packages.requested()?, policy))?;
    let runtime = super::tokio_runtime()?;
    let code = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(Failure::ours)?;
        let sandbox = tokio::select! {
            sandbox = engine::connect(&args.config) => sandbox?,
            // Nothing has been started yet.
            code = signals.next() => return Ok(code),
        };
        let service = local.start(sandbox).await?;
        let submitted = service.submit(spec, Mode::Sync, None).await.map_err(Failure::ours)?;
        let code = to_its_end(&service, &submitted, signals, &args).await;
        local::stop(&service).await;
        code
    });
    runtime.shutdown_background();
    code.map(ExitCode::from)
}

/// Whoever runs this command sets the limits, so there is nothing to hold them under.
fn lift_ceilings(limits: &mut LimitConfig) {
    limits.max_timeout_seconds = limits.max_timeout_seconds.max(limits.timeout_seconds);
    limits.max_compile_timeout_seconds =
        limits.max_compile_timeout_seconds.max(limits.compile_timeout_seconds);
    limits.max_memory_mb = limits.max_memory_mb.max(limits.memory_mb);
    limits.max_disk_mb = limits.max_disk_mb.max(limits.disk_mb);
    limits.max_cpus = limits.max_cpus.max(limits.cpus);
    limits.max_pids = limits.max_pids.max(limits.pids);
    limits.max_output_kb = limits.max_output_kb.max(limits.output_kb);
}

fn packed(args: &Args, local: &Local) -> Result<Packed, Failure> {
    let (spool, limits) = (local.spool(), local.archive_limits());
    if args.project != Path::new("-") {
        return pack::path(&args.project, args.output.as_deref(), &spool, limits);
    }
    let language = args.language.as_deref();
    let language = language.ok_or_else(|| Failure::usage("a program on standard input needs --language"))?;
    let runtime = local.catalogue().resolve(language).map_err(Failure::usage)?;
    let file = args.entrypoint.clone().or_else(|| runtime.first_entrypoint().map(str::to_owned));
    let file = file.ok_or_else(|| {
        Failure::usage(format!("{} has no default file name; give --entrypoint", runtime.name))
    })?;
    pack::program(&file, io::stdin().lock(), &spool, limits)
}

fn submission(args: &Args, packed: Packed) -> Result<Submission, Failure> {
    // A program that came through standard input has used it up.
    let stdin = if args.project == Path::new("-") { Stdin::empty() } else { live_stdin() };
    Ok(Submission {
        project: packed.project,
        language: args.language.clone(),
        entrypoint: args.entrypoint.clone().or(packed.entrypoint),
        // None given means those that the project names.
        args: Some(args.args.clone()).filter(|words| !words.is_empty()),
        env: args.env.clone(),
        stdin,
        limits: args.given_limits(),
        eval_last_expr: false,
        script: args.script.script()?,
        // Without a folder for them there is nothing to collect.
        artifacts: if args.output.is_some() { None } else { Some(Vec::new()) },
        labels: BTreeMap::new(),
        lint: if args.lint { LintMode::Advise } else { LintMode::Off },
        notices: Vec::new(),
    })
}

/// Asks for every limit by name, so that a value which can't work is refused with its name.
#[allow(clippy::cast_precision_loss)]
fn requested(limits: &LimitConfig) -> RequestedLimits {
    RequestedLimits {
        timeout_seconds: Some(limits.timeout_seconds as f64),
        compile_timeout_seconds: Some(limits.compile_timeout_seconds as f64),
        memory_mb: Some(limits.memory_mb as f64),
        disk_mb: Some(limits.disk_mb as f64),
        cpus: Some(limits.cpus),
        pids: Some(limits.pids as f64),
        output_kb: Some(limits.output_kb as f64),
    }
}

/// Passes standard input on while the program runs. The thread may stay in its read for ever: it holds nothing, and
/// ends with the process.
fn live_stdin() -> Stdin {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; DATA_CHUNK];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    Stdin::Live(Mutex::new(Some(receiver)))
}

async fn to_its_end(
    service: &Service,
    submitted: &Submitted,
    mut signals: Signals,
    args: &Args,
) -> Result<u8, Failure> {
    let tenant = Tenant::local();
    let lost = || Failure::ours("the execution was forgotten before it was read");
    let show = show(submitted.follow().ok_or_else(lost)?);
    tokio::pin!(show);
    let stopped = tokio::select! {
        shown = &mut show => shown.err().map(|error| if error.kind() == io::ErrorKind::BrokenPipe { 141 } else { OUR_FAILURE }),
        code = signals.next() => Some(code),
    };
    if let Some(code) = stopped {
        // Whoever is tired of waiting for the kill, too, may end us.
        signals.end_at_next();
        service.cancel(&tenant, submitted.id).await.map_err(Failure::ours)?;
        return Ok(code);
    }
    let execution =
        service.wait(&tenant, submitted.id, None).await.map_err(Failure::ours)?.ok_or_else(lost)?;
    conclude(&execution, args)
}

/// Shows everything as it comes, to its end.
async fn show(mut follower: Follower) -> io::Result<()> {
    while let Some(event) = follower.next().await {
        // A terminal or pipe may make us wait; the other tasks go on meanwhile.
        tokio::task::block_in_place(|| match event {
            LiveEvent::Bytes(Channel::Stdout, bytes) => output::result(&bytes),
            // A compiler's words are not the program's output.
            LiveEvent::Bytes(_, bytes) => output::error_bytes(&bytes),
            LiveEvent::Progress(line) => {
                output::complaint(&line);
                Ok(())
            }
            LiveEvent::Restarted => {
                output::complaint("the sandbox was lost; it starts again, and the output above is void");
                Ok(())
            }
        })?;
    }
    Ok(())
}

fn conclude(execution: &Execution, args: &Args) -> Result<u8, Failure> {
    let Some(finished) = &execution.finished else { return Err(Failure::ours("it ended without a result")) };
    let folder = args.output.as_deref();
    if let Some(folder) = folder {
        artifacts::save(&finished.artifacts, folder).map_err(Failure::ours)?;
        for artifact in &finished.artifacts {
            let path = folder.join(&artifact.path);
            // A program chose the name, and a terminal reads it.
            let path = path.to_string_lossy().escape_debug().to_string();
            output::complaint(&format!("wrote {path} ({} bytes)", artifact.size));
        }
    }
    args.script.hand_over(finished)?;
    for notice in &finished.notices {
        output::complaint(notice);
    }
    if let Some(error) = &finished.outcome.error {
        output::complaint(error);
    }
    if finished.truncated.stdout || finished.truncated.stderr {
        output::complaint("output was cut; --output-kb lets more through");
    }
    if finished.truncated.artifacts && folder.is_some() {
        output::complaint("some files were left out; --artifact-mb and --artifact-count let more through");
    }
    Ok(exit_code_of(finished))
}

fn exit_code_of(finished: &Finished) -> u8 {
    let own = finished.outcome.exit_code;
    let code = match finished.outcome.reason {
        Reason::Exited | Reason::Signaled => own,
        // It failed, whatever its code says.
        Reason::CompileFailed | Reason::InstallFailed | Reason::DiskLimit => own.max(1),
        Reason::TimedOut => 124,
        Reason::OutOfMemory | Reason::Killed => 137,
        Reason::OutputLimit => 153,
        Reason::Internal => OUR_FAILURE.into(),
    };
    u8::try_from(code).unwrap_or(OUR_FAILURE)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::sandbox::{Outcome, Timings, Truncated, Usage};

    fn ended(reason: Reason, exit_code: i32) -> u8 {
        exit_code_of(&Finished {
            outcome: Outcome { reason, exit_code, error: None },
            install: None,
            compile: None,
            artifacts: Vec::new(),
            truncated: Truncated::default(),
            usage: Usage::default(),
            queue_us: 0,
            duration_us: 0,
            timings: Timings::default(),
            result: None,
            return_value: None,
            results: BTreeMap::new(),
            diagnosis: None,
            notices: Vec::new(),
        })
    }

    #[test]
    fn the_exit_code_is_the_programs_own_or_says_why_there_is_none() {
        assert_eq!(ended(Reason::Exited, 7), 7);
        assert_eq!(ended(Reason::Signaled, 139), 139);
        assert_eq!(ended(Reason::CompileFailed, 3), 3);
        assert_eq!(ended(Reason::CompileFailed, 0), 1);
        assert_eq!(ended(Reason::InstallFailed, 2), 2);
        assert_eq!(ended(Reason::TimedOut, 137), 124);
        assert_eq!(ended(Reason::OutOfMemory, 1), 137);
        assert_eq!(ended(Reason::OutputLimit, 137), 153);
        assert_eq!(ended(Reason::DiskLimit, 0), 1, "it failed, whatever it says");
        assert_eq!(ended(Reason::Internal, 125), 125);
    }

    #[test]
    fn whatever_limit_is_asked_for_is_under_the_ceiling() {
        let mut config = Config::default();
        config.limits.timeout_seconds = 1_000_000;
        config.limits.cpus = 64.0;
        lift_ceilings(&mut config.limits);
        let limits = config.limit_policy().resolve(&requested(&config.limits)).unwrap();
        assert_eq!((limits.timeout_ms, limits.cpu_millis), (1_000_000_000, 64_000));
        config.limits.memory_mb = 0;
        let error = config.limit_policy().resolve(&requested(&config.limits)).unwrap_err();
        assert!(error.to_string().contains("memory_mb"), "{error}");
    }

    /// `execbox.toml` may say what nobody gave, also where a file of settings has another default.
    #[test]
    fn only_limits_that_were_given_are_asked_for() {
        let command = adapt(Args::augment_args(clap::Command::new("run")));
        let words = ["run", "x.py", "--timeout", "5", "--output-kb=65536"];
        let matches = command.mut_arg("memory_mb", |arg| arg.default_value("64")).get_matches_from(words);
        let mut args = Args::from_arg_matches(&matches).unwrap();
        args.note_given(&matches);
        let expected = RequestedLimits {
            timeout_seconds: Some(5.0),
            output_kb: Some(65_536.0),
            ..RequestedLimits::default()
        };
        assert_eq!(args.given_limits(), expected);
    }

    #[test]
    fn a_variable_needs_a_name_and_may_have_any_value() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err() && variable("=x").is_err());
    }
}
