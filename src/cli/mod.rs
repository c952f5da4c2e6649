//! The command line: one file per command.

mod artifacts;
mod descriptors;
mod doctor;
mod engine;
mod failure;
mod images;
mod keys;
mod layers;
mod local;
mod openapi;
mod output;
mod pack;
mod packages;
mod run;
mod runtimes;
mod script;
mod serve;
mod signals;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::failure::Failure;

/// Runs untrusted, multi-file projects in locked-down containers.
#[derive(Parser)]
#[command(name = "execbox", version, disable_help_subcommand = true)]
struct Cli {
    /// TOML file with settings: the long flags of `serve`, with underscores. Flags and environment win over it.
    #[arg(long = "config", env = "EXECBOX_CONFIG", value_name = "FILE", global = true)]
    _config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Run(Box<run::Args>),
    Runtimes(Box<runtimes::Args>),
    Images(Box<images::Args>),
    Keys(Box<keys::Args>),
    Doctor(Box<doctor::Args>),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi,
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: in a container there is neither a terminal nor memory to spare.
    if args.get(1).is_some_and(|arg| arg == crate::runner::ARGUMENT) {
        return crate::runner::main(args.get(2).map(OsString::as_os_str));
    }
    if args.get(1).is_some_and(|arg| arg == crate::runner::probe::ARGUMENT) {
        return crate::runner::probe::main(args.get(2).map(OsString::as_os_str));
    }
    let outcome = match parse(&args) {
        Ok(cli) => {
            warn_of_unknown_variables();
            execute(cli.command)
        }
        Err(Refusal::Clap(error)) => return refuse(&error),
        Err(Refusal::Settings(message)) => Err(Failure::usage(message)),
    };
    outcome.unwrap_or_else(|failure| {
        output::complaint(&failure.message);
        ExitCode::from(failure.code)
    })
}

enum Refusal {
    Clap(clap::Error),
    Settings(String),
}

fn parse(args: &[OsString]) -> Result<Cli, Refusal> {
    let mut command = command();
    if let Some(file) = layers::config_flag(args).or_else(crate::config::config_file) {
        command = layers::apply(command, &serve::settings(), &file).map_err(Refusal::Settings)?;
    }
    let matches = command.try_get_matches_from(args).map_err(Refusal::Clap)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(Refusal::Clap)?;
    if let (Command::Run(args), Some((_, matches))) = (&mut cli.command, matches.subcommand()) {
        args.note_given(matches);
    }
    Ok(cli)
}

/// The whole command line. Commands take every setting, so that one file serves them all; each shows its own.
fn command() -> clap::Command {
    let settings = serve::settings();
    let own = move |command: clap::Command, shown: &[&[&str]]| {
        command.mut_args(|arg| {
            let id = arg.get_id().as_str();
            let elsewhere = settings.get_arguments().any(|setting| setting.get_id() == id)
                && !shown.concat().contains(&id);
            if elsewhere { arg.hide(true) } else { arg }
        })
    };
    Cli::command()
        .mut_subcommand("run", |run| run::adapt(own(run, &[&engine::SETTINGS, &run::SETTINGS])))
        .mut_subcommand("runtimes", |runtimes| own(runtimes, &[&engine::SETTINGS]))
        .mut_subcommand("doctor", |doctor| own(doctor, &[&engine::SETTINGS, &["data_dir", "installs"]]))
        .mut_subcommand("images", |images| {
            let images = images.mut_subcommand("list", |list| own(list, &[&engine::SETTINGS]));
            let images = images.mut_subcommand("build", |build| own(build, &[&engine::SETTINGS]));
            images.mut_subcommand("gc", |gc| own(gc, &[&engine::SETTINGS, &["dependencies_days"]]))
        })
}

/// A misspelled variable is a setting that is not in force.
fn warn_of_unknown_variables() {
    let (command, settings) = (Cli::command(), serve::settings());
    let args = settings.get_arguments().chain(command.get_arguments());
    let names = args.filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned));
    for sentence in crate::config::unknown_variables(&names.collect::<Vec<_>>()) {
        output::complaint(&format!("warning: {sentence}"));
    }
}

fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(args) => serve::serve(*args),
        Command::Run(args) => run::run(*args),
        Command::Runtimes(args) => runtimes::runtimes(&args),
        Command::Images(args) => images::images(&args),
        Command::Keys(args) => keys::keys(*args),
        Command::Doctor(args) => doctor::doctor(*args),
        Command::Openapi => openapi::openapi(),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "execbox", &mut script);
    output::result(&script).map_err(Failure::ours)?;
    Ok(ExitCode::SUCCESS)
}

/// Help and version as clap prints them; a mistake as one line in our own form.
fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if error.use_stderr() && error.kind() != DisplayHelpOnMissingArgumentOrSubcommand {
        output::complaint(&first_paragraph(&error.to_string()));
    } else {
        // Nobody is left to tell when even this can't be written.
        drop(error.print());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE))
}

fn first_paragraph(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    format!("{}; see --help", line.strip_prefix("error: ").unwrap_or(&line))
}

/// The runtime of every command that waits for something.
fn tokio_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::ours(format!("no threads can be started: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Cli, String> {
        let args: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        parse(&args).map_err(|refusal| match refusal {
            Refusal::Clap(error) => first_paragraph(&error.to_string()),
            Refusal::Settings(message) => message,
        })
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_mistake_is_one_line_that_names_it() {
        for (words, line) in [
            ("execbox serve --listne x", "unexpected argument '--listne' found; see --help"),
            ("execbox run", "the following required arguments were not provided: <FILE|DIR|->; see --help"),
            (
                "execbox serve --workers x",
                "invalid value 'x' for '--workers <N>': invalid digit found in string; see --help",
            ),
        ] {
            assert_eq!(parse_words(words).err().as_deref(), Some(line), "{words}");
        }
    }

    #[test]
    fn each_command_shows_its_own_settings() {
        let help = |name: &str| {
            let mut command = command();
            command.build();
            command.find_subcommand_mut(name).unwrap().render_long_help().to_string()
        };
        assert!(help("serve").contains("--queue-length"));
        let run = help("run");
        assert!(
            run.contains("--memory-mb") && run.contains("--docker-host") && run.contains("--timeout"),
            "{run}"
        );
        assert!(!run.contains("--queue-length") && !run.contains("--max-memory-mb"), "{run}");
    }

    #[test]
    fn the_programs_own_arguments_are_left_alone() {
        let Command::Run(args) =
            parse_words("execbox run main.py --timeout 5 -- --timeout 6").unwrap().command
        else {
            panic!("another command");
        };
        assert_eq!(args.config.limits.timeout_seconds, 5);
        assert_eq!(args.args, ["--timeout", "6"]);
    }
}
