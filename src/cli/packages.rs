//! Packages that a program needs, on the command line.

use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::config::Config;
use crate::execution::intake::{Installs, RequestedDependencies};

#[derive(clap::Args)]
#[command(next_help_heading = "Packages (docs/dependencies.md)")]
pub(super) struct PackageArgs {
    /// Install what this file says first, once for all runs: lines of `name==version`. Python.
    #[arg(long, value_name = "FILE")]
    requirements: Option<PathBuf>,

    /// The same for the project's own files: requirements.txt, package.json with its lock, and the like.
    #[arg(long)]
    install: bool,

    /// Run this line of shell with a network before that; what it leaves where it starts is at /deps. May be given many times.
    #[arg(long = "pre-command", value_name = "LINE")]
    pre_commands: Vec<String>,
}

impl PackageArgs {
    pub(super) fn requested(&self) -> Result<RequestedDependencies, Failure> {
        Ok(RequestedDependencies {
            requirements_txt: self.requirements.as_deref().map(read).transpose()?,
            install: self.install,
            pre_commands: self.pre_commands.clone(),
            ..RequestedDependencies::default()
        })
    }

    /// Whoever runs this command is the operator: what is asked for is allowed.
    pub(super) fn allow(&self, config: &mut Config) {
        let needed = if !self.pre_commands.is_empty() {
            Installs::Code
        } else if self.install || self.requirements.is_some() {
            Installs::Packages
        } else {
            Installs::Off
        };
        config.packages.installs = config.packages.installs.max(needed);
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}
