//! Settings that contradict one another, or say that nothing at all may be done: told at the start, not at the first request.

use std::fmt::Display;

use crate::config::Config;

impl Config {
    /// Whether the settings go together.
    ///
    /// # Errors
    /// The sentence names the first setting that is wrong, with its value and what would be right.
    pub fn check(&self) -> Result<(), String> {
        self.check_ceilings()?;
        self.check_zeros()?;
        self.check_shares()
    }

    /// A default over its ceiling would be one that no request may ask for.
    fn check_ceilings(&self) -> Result<(), String> {
        let limits = &self.limits;
        for (name, value, most_name, most) in [
            (
                "--timeout-seconds",
                limits.timeout_seconds,
                "--max-timeout-seconds",
                limits.max_timeout_seconds,
            ),
            (
                "--compile-timeout-seconds",
                limits.compile_timeout_seconds,
                "--max-compile-timeout-seconds",
                limits.max_compile_timeout_seconds,
            ),
            ("--memory-mb", limits.memory_mb, "--max-memory-mb", limits.max_memory_mb),
            ("--disk-mb", limits.disk_mb, "--max-disk-mb", limits.max_disk_mb),
            ("--pids", limits.pids, "--max-pids", limits.max_pids),
            ("--output-kb", limits.output_kb, "--max-output-kb", limits.max_output_kb),
        ] {
            at_most(name, value, most_name, most)?;
        }
        at_most("--cpus", limits.cpus, "--max-cpus", limits.max_cpus)
    }

    /// Sizes, times and counts with which nothing would run.
    fn check_zeros(&self) -> Result<(), String> {
        let (limits, request) = (&self.limits, &self.request);
        for (name, value) in [
            ("--timeout-seconds", limits.timeout_seconds),
            ("--compile-timeout-seconds", limits.compile_timeout_seconds),
            ("--disk-mb", limits.disk_mb),
            ("--disk-inodes", limits.disk_inodes),
            ("--output-kb", limits.output_kb),
            ("--archive-mb", request.archive_mb),
            ("--archive-entries", request.archive_entries),
            ("--json-kb", request.json_kb),
            ("--input-kb", request.input_kb),
            ("--eval-code-kb", request.eval_code_kb),
            ("--head-seconds", request.head_seconds),
            ("--body-idle-seconds", request.body_idle_seconds),
            ("--answer-idle-seconds", request.answer_idle_seconds),
            ("--keep-alive-seconds", request.keep_alive_seconds),
            ("--connections", request.connections as u64),
            ("--uploads", request.uploads as u64),
            ("--archive-depth", request.archive_depth as u64),
            ("--queue-length", self.queue_length as u64),
            ("--queue-mb", self.queue_mb),
            ("--build-timeout-seconds", self.build.build_timeout_seconds),
            ("--install-timeout-seconds", self.packages.install_timeout_seconds),
            ("--install-disk-mb", self.packages.install_disk_mb),
        ] {
            at_least(name, value, 1)?;
        }
        // As for requests: less than this starts nothing.
        at_least("--memory-mb", limits.memory_mb, 8)?;
        at_least("--install-memory-mb", self.packages.install_memory_mb, 8)?;
        at_least("--pids", limits.pids, 3)?;
        if limits.cpus < 0.01 {
            return Err(format!("--cpus is {}; it must be at least 0.01", limits.cpus));
        }
        Ok(())
    }

    /// What is a part of something is no more than that.
    fn check_shares(&self) -> Result<(), String> {
        let containers = &self.containers;
        let most = self.pool_limits().most;
        if most > 0 {
            at_most("--warm-min", containers.warm_min, "--warm-max", most)?;
        }
        if let Some(share) = self.tenant_queue_length {
            at_least("--tenant-queue-length", share as u64, 1)?;
            at_most("--tenant-queue-length", share, "--queue-length", self.queue_length)?;
        }
        if let Some(share) = self.tenant_concurrency {
            at_most("--tenant-concurrency", share, "--workers", self.workers())?;
        }
        Ok(())
    }
}

fn at_most<T: PartialOrd + Display>(name: &str, value: T, most_name: &str, most: T) -> Result<(), String> {
    if value <= most {
        return Ok(());
    }
    Err(format!("{name} is {value}, over {most_name}, which is {most}; lower the first or raise the second"))
}

fn at_least(name: &str, value: u64, least: u64) -> Result<(), String> {
    if value >= least {
        return Ok(());
    }
    Err(format!("{name} is {value}; it must be at least {least}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings that these words make.
    fn check(words: &[&str]) -> Result<(), String> {
        #[derive(clap::Parser)]
        struct Settings {
            #[command(flatten)]
            config: Config,
        }
        let command = <Settings as clap::CommandFactory>::command().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.get_matches_from([&["execbox"], words].concat());
        <Settings as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().config.check()
    }

    #[test]
    fn the_defaults_go_together() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["--warm-max", "0"]), Ok(()), "0 keeps none warm, whatever the least");
    }

    #[test]
    fn a_default_over_its_ceiling_is_refused_with_both() {
        for (name, value) in [
            ("timeout-seconds", "4000"),
            ("compile-timeout-seconds", "4000"),
            ("memory-mb", "100000"),
            ("disk-mb", "100000"),
            ("cpus", "64"),
            ("pids", "10000"),
            ("output-kb", "100000"),
        ] {
            let error = check(&[&format!("--{name}={value}")]).unwrap_err();
            assert!(error.contains(&format!("--{name} is {value}, over --max-{name}, which is ")), "{error}");
        }
    }

    /// Settings of which 0 is a value like others, with what it does.
    const ZERO_IS_RIGHT: [(&str, &str); 16] = [
        ("data-reserve-mb", "new work is taken until the disk is full"),
        ("warm-min", "a runtime has no container that waits before it was used"),
        ("warm-max", "no containers wait"),
        ("warm-memory-mb", "no containers wait"),
        ("drain-seconds", "executions that run are not waited for"),
        ("memory-disk-mb", "every workspace is on disk"),
        ("disk-reserve-mb", "the Engine's disk may become full"),
        ("artifact-mb", "no files come back"),
        ("artifact-count", "no files come back"),
        ("body-min-rate", "slow bodies are held to no rate"),
        ("answer-min-rate", "slow readers are held to no rate"),
        ("dependencies-mb", "packages are removed after their last use"),
        ("image-wait-seconds", "no caller waits for an image"),
        ("keep-seconds", "finished executions go at once"),
        ("keep-count", "finished executions go at once"),
        ("keep-mb", "finished executions go at once"),
    ];

    #[test]
    fn of_every_number_zero_is_refused_or_means_something() {
        #[derive(clap::Parser)]
        struct Settings {
            #[command(flatten)]
            config: Config,
        }
        let command = || <Settings as clap::CommandFactory>::command().mut_args(|arg| arg.env(None::<&str>));
        let parses = |word: String| command().try_get_matches_from(["execbox".to_owned(), word]);
        let names: Vec<_> =
            command().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        let mut seen = Vec::new();
        for name in names {
            // What takes a word takes any number; what takes no 0 at all was refused by its own range.
            let (word, zero) = (parses(format!("--{name}=x")), parses(format!("--{name}=0")));
            let (Err(_), Ok(zero)) = (word, zero) else { continue };
            let config = <Settings as clap::FromArgMatches>::from_arg_matches(&zero).unwrap().config;
            match config.check() {
                Err(error) => {
                    let said =
                        [format!("--{name} is 0; it must be at least "), format!("--{name}, which is 0")];
                    assert!(said.iter().any(|said| error.contains(said)), "{error}");
                }
                Ok(()) => {
                    let means = ZERO_IS_RIGHT.iter().find(|(other, _)| *other == name);
                    assert!(means.is_some(), "--{name}=0 is neither refused nor listed");
                    seen.push(name);
                }
            }
        }
        assert!(seen.len() > 10, "{seen:?}");
        for (name, _) in ZERO_IS_RIGHT {
            assert!(seen.iter().any(|other| other == name), "--{name}=0 is refused by now");
        }
    }

    #[test]
    fn a_part_is_no_more_than_the_whole() {
        for (words, says) in [
            (["--warm-min=3", "--warm-max=2"], "--warm-min is 3, over --warm-max, which is 2"),
            (
                ["--tenant-queue-length=9", "--queue-length=8"],
                "--tenant-queue-length is 9, over --queue-length",
            ),
            (
                ["--tenant-concurrency=9", "--workers=8"],
                "--tenant-concurrency is 9, over --workers, which is 8",
            ),
        ] {
            let error = check(&words).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
