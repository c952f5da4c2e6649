//! The TOML file under the flags and the environment.
//!
//! Its values become the defaults of the flags before the command line is parsed, so that flag, environment, file and
//! default come in this order, `--help` shows what is in force, and there is one place that checks values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command;
use toml::Value;

use crate::runtime::nearest;

/// Finds `--config FILE` before the real parse, which needs the file's values. Looks no further than `--`.
pub(super) fn config_flag(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().skip(1).take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

/// Lays the file's values under the settings of every subcommand. `settings` is a command that has all settings.
///
/// # Errors
/// The file can't be read, has an unknown key, or a value that its flag would refuse. Names the file and the key.
pub(super) fn apply(mut command: Command, settings: &Command, file: &Path) -> Result<Command, String> {
    let wrong = |message: String| format!("{}: {message}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let defaults = read(settings, &text).map_err(wrong)?;
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| with_defaults(sub, &defaults));
    }
    Ok(command)
}

fn with_defaults(mut command: Command, defaults: &BTreeMap<String, Vec<String>>) -> Command {
    for (key, values) in defaults {
        if command.get_arguments().any(|arg| arg.get_id() == key.as_str()) {
            command = command.mut_arg(key, |arg| arg.default_values(values.clone()));
        }
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |sub| with_defaults(sub, defaults)))
}

fn read(settings: &Command, text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut defaults = BTreeMap::new();
    for (key, value) in table {
        let values =
            texts(&value).ok_or_else(|| format!("{key}: a text, number, truth value or list is needed"))?;
        check(settings, &key, &values)?;
        defaults.insert(key, values);
    }
    Ok(defaults)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    Some(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(truth) => vec![truth.to_string()],
        Value::Array(items) => items.iter().map(texts).collect::<Option<Vec<_>>>()?.concat(),
        Value::Datetime(_) | Value::Table(_) => return None,
    })
}

/// Has the flag itself judge its values: clap takes a wrong default for a fault of the program.
fn check(settings: &Command, key: &str, values: &[String]) -> Result<(), String> {
    let Some(arg) = settings.get_arguments().find(|arg| arg.get_id() == key) else {
        let known = settings.get_arguments().map(|arg| arg.get_id().as_str());
        let near = nearest(&key.replace('-', "_"), known);
        let meant = near.first().map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        return Err(format!(
            "unknown key `{key}`; {meant}keys are the long flags of `execbox serve` with underscores"
        ));
    };
    // A flag without a value takes one here, so that the file's `true` or `false` is what is judged.
    let arg = match arg.get_action().takes_values() {
        true => arg.clone(),
        false => arg.clone().action(clap::ArgAction::Set).num_args(1),
    };
    let many = matches!(arg.get_action(), clap::ArgAction::Append);
    if !many && values.len() != 1 {
        return Err(format!("{key}: one value is needed, not a list of {}", values.len()));
    }
    let alone = Command::new("execbox").no_binary_name(true).arg(arg.env(None::<&str>));
    let flag = format!("--{}", key.replace('_', "-"));
    let args = values.iter().map(|value| format!("{flag}={value}"));
    alone.try_get_matches_from(args).map(drop).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        format!("{key}: {}", line.strip_prefix("error: ").unwrap_or(line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

    use crate::config::Config;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Subcommand)]
    enum Sub {
        Serve {
            #[command(flatten)]
            config: Config,
        },
    }

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        _config: Config,
    }

    /// The settings that come out of this file and these flags, with `PATH` standing for a variable that is set.
    fn layered(toml: &str, args: &[&str], env: &[(&str, &'static str)]) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let command = apply(Cli::command(), &Settings::command(), file.path())
            .map_err(|error| error.replace(&file.path().display().to_string(), "FILE"))?;
        let command = command.mut_subcommand("serve", |serve| {
            serve.mut_args(|arg| {
                let set = env.iter().find(|(id, _)| arg.get_id() == *id).map(|(_, variable)| *variable);
                arg.env(set)
            })
        });
        let args = ["execbox", "serve"].iter().chain(args);
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        let Cli { command: Sub::Serve { config } } = Cli::from_arg_matches(&matches).unwrap();
        Ok(config)
    }

    #[test]
    fn the_file_wins_over_the_default_and_a_flag_over_the_file() {
        let file = "memory_mb = 64\ncpus = 0.5\nlisten = '127.0.0.1:1'\nallow_unauthenticated = true\n\
                    allowed_hosts = ['a', 'b']\nworkers = 3\n";
        let config = layered(file, &["--listen", "127.0.0.1:2"], &[]).unwrap();
        assert_eq!((config.limits.memory_mb, config.limits.cpus, config.workers), (64, 0.5, Some(3)));
        assert_eq!(config.listen.port(), 2);
        assert!(config.allow_unauthenticated);
        assert_eq!(config.allowed_hosts, ["a", "b"]);
        assert_eq!(config.limits.pids, 128, "not in the file");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_a_flag_over_the_environment() {
        // A variable that every test run has: the environment of a process with threads can't be set safely.
        let set = [("build_network", "CARGO_PKG_NAME")];
        let config = layered("build_network = 'host'", &[], &set).unwrap();
        assert_eq!(config.build.build_network, "execbox");
        let config = layered("build_network = 'host'", &["--build-network", "flag"], &set).unwrap();
        assert_eq!(config.build.build_network, "flag");
        let config = layered("build_network = 'host'", &[], &[]).unwrap();
        assert_eq!(config.build.build_network, "host");
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named_with_the_file() {
        for (file, words) in [
            ("memroy_mb = 64", "FILE: unknown key `memroy_mb`; did you mean `memory_mb`? keys are"),
            ("memory-mb = 64", "FILE: unknown key `memory-mb`; did you mean `memory_mb`?"),
            ("colour = 64", "FILE: unknown key `colour`; keys are"),
            ("memory_mb = 'much'", "FILE: memory_mb: invalid value 'much'"),
            ("memory_mb = [1, 2]", "FILE: memory_mb: one value is needed"),
            ("[limits]\nmemory_mb = 1", "FILE: limits: a text"),
            ("allow_unauthenticated = 'perhaps'", "FILE: allow_unauthenticated: invalid value 'perhaps'"),
            ("memory_mb = ", "FILE: TOML parse error"),
        ] {
            let error = layered(file, &[], &[]).unwrap_err();
            assert!(error.starts_with(words), "{file}: {error}");
        }
    }

    #[test]
    fn the_config_flag_is_found_before_the_programs_own_arguments() {
        let find = |args: &[&str]| config_flag(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(find(&["execbox", "serve", "--config", "a"]), Some("a".into()));
        assert_eq!(find(&["execbox", "--config=b", "serve"]), Some("b".into()));
        assert_eq!(find(&["execbox", "run", "x", "--", "--config", "c"]), None);
    }
}
