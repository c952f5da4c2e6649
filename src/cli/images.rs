//! `execbox images`: the images of the runtimes.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::failure::Failure;
use crate::cli::{engine, output};
use crate::config::Config;
use crate::runtime::{Catalogue, Runtime};

/// List or build the images of the runtimes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the images, built or not.
    List {
        #[command(flatten)]
        config: Box<Config>,
    },
    /// Build images now instead of on first use. One that is there already is left as it is.
    Build {
        /// Runtimes, by name or alias.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "names")]
        all: bool,
        #[command(flatten)]
        config: Box<Config>,
    },
}

pub(super) fn images(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = super::tokio_runtime()?;
    match &args.command {
        Command::List { config } => runtime.block_on(list(config)),
        Command::Build { names, all, config } => runtime.block_on(build(config, names, *all)),
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn list(config: &Config) -> Result<(), Failure> {
    let catalogue = engine::catalogue(config)?;
    let sandbox = engine::connect(config, None).await?;
    let mut rows = vec![["NAME", "VERSION", "IMAGE", "SIZE"].map(String::from).to_vec()];
    for runtime in catalogue.runtimes() {
        let state = sandbox.image_state(runtime).await.map_err(Failure::ours)?;
        let size = state.size.map_or_else(|| "not built".into(), megabytes);
        rows.push(vec![runtime.name.clone(), runtime.version.clone(), state.tag, size]);
    }
    output::result(output::table(&rows).as_bytes()).map_err(Failure::ours)
}

async fn build(config: &Config, names: &[String], all: bool) -> Result<(), Failure> {
    let catalogue = engine::catalogue(config)?;
    let chosen = if all { catalogue.runtimes().to_vec() } else { choose(&catalogue, names)? };
    let sandbox = engine::connect(config, None).await?;
    for runtime in chosen {
        let show = |line: &str| output::note(&format!("{}: {line}", runtime.name));
        let state = sandbox.build_image(&runtime, &show).await.map_err(Failure::ours)?;
        let line = format!("{}  {}\n", state.tag, state.size.map_or_else(String::new, megabytes));
        output::result(line.as_bytes()).map_err(Failure::ours)?;
    }
    Ok(())
}

fn choose(catalogue: &Catalogue, names: &[String]) -> Result<Vec<Arc<Runtime>>, Failure> {
    if names.is_empty() {
        return Err(Failure::usage(format!("name runtimes, or say --all; {}", offer(catalogue))));
    }
    names.iter().map(|name| catalogue.resolve(name).map_err(Failure::usage)).collect()
}

/// A half sentence that names them all.
fn offer(catalogue: &Catalogue) -> String {
    let names: Vec<_> = catalogue.runtimes().iter().map(|runtime| runtime.name.as_str()).collect();
    format!("there are: {}", names.join(", "))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
