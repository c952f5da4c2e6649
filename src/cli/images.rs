//! `execbox images`: the images of the runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use crate::cli::failure::Failure;
use crate::cli::{engine, output};
use crate::config::Config;
use crate::execution::intake::Installs;
use crate::runtime::{Catalogue, Runtime};
use crate::sandbox::docker::ImageState;

/// List, build or clear away the images of the runtimes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the images, built or not, with what each adds to the one it starts from.
    List {
        /// As the table of the README.
        #[arg(long)]
        markdown: bool,
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
    /// Remove images of execbox that nothing uses: of runtimes as they were before they changed, and nameless ones.
    /// Those of another version of execbox on the same Engine are among them; it builds them again. With --packages:
    /// packages instead of images.
    Gc {
        /// Only those of these runtimes, by name.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Remove packages that no container uses: those that `execbox run` installed, those of data folders that are
        /// gone, and those that were not used for --dependencies-days.
        #[arg(long, conflicts_with = "names")]
        packages: bool,
        #[command(flatten)]
        config: Box<Config>,
    },
}

pub(super) fn images(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = super::tokio_runtime()?;
    match &args.command {
        Command::List { markdown, config } => runtime.block_on(list(config, *markdown)),
        Command::Build { names, all, config } => runtime.block_on(build(config, names, *all)),
        Command::Gc { packages: true, config, .. } => runtime.block_on(collect_packages(config)),
        Command::Gc { names, config, .. } => runtime.block_on(collect(config, names)),
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn list(config: &Config, markdown: bool) -> Result<(), Failure> {
    let catalogue = engine::catalogue(config)?;
    let sandbox = engine::connect(config).await?;
    let mut states = Vec::new();
    for runtime in catalogue.runtimes() {
        states.push((Arc::clone(runtime), sandbox.image_state(runtime).await.map_err(Failure::ours)?));
    }
    let text = if markdown { markdown_table(&states) } else { plain_table(&states) };
    output::result(text.as_bytes()).map_err(Failure::ours)?;
    output::note(&total(states.iter().map(|(_, state)| state)));
    Ok(())
}

fn plain_table(states: &[(Arc<Runtime>, ImageState)]) -> String {
    let mut rows = vec![["NAME", "VERSION", "IMAGE", "SIZE", "OWN"].map(String::from).to_vec()];
    for (runtime, state) in states {
        let size = state.size.map_or_else(|| "not built".into(), megabytes);
        let own = own_size(state).map_or_else(String::new, megabytes);
        rows.push(vec![runtime.name.clone(), runtime.version.clone(), state.tag.clone(), size, own]);
    }
    output::table(&rows)
}

fn markdown_table(states: &[(Arc<Runtime>, ImageState)]) -> String {
    let mut text =
        "| Name | Version | Aliases | Extensions | Image | Own |\n|---|---|---|---|---|---|\n".to_owned();
    for (runtime, state) in states {
        let aliases: Vec<_> = runtime.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let extensions: Vec<_> = runtime.extensions.iter().map(|extension| format!(".{extension}")).collect();
        let cells = [
            format!("`{}`", runtime.name),
            runtime.version.clone(),
            aliases.join(", "),
            extensions.join(" "),
            state.size.map_or_else(|| "not built".into(), megabytes),
            own_size(state).map_or_else(String::new, megabytes),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

/// Bytes that the image adds to the one it starts from.
fn own_size(state: &ImageState) -> Option<u64> {
    let below = state.base.as_ref().map_or(0, |(_, size)| *size);
    Some(state.size?.saturating_sub(below))
}

/// How many there are and what they take together, where what they start from counts once.
fn total<'a>(states: impl Iterator<Item = &'a ImageState> + Clone) -> String {
    let built = states.clone().filter(|state| state.size.is_some());
    let tags: BTreeSet<&str> = states.clone().map(|state| state.tag.as_str()).collect();
    let bases: BTreeMap<&str, u64> = built
        .clone()
        .filter_map(|state| state.base.as_ref())
        .filter(|(base, _)| !tags.contains(base.as_str()))
        .map(|(base, size)| (base.as_str(), *size))
        .collect();
    let bytes = built.clone().filter_map(own_size).sum::<u64>() + bases.values().sum::<u64>();
    format!("{} of {} images are built: {} in all", built.count(), states.count(), megabytes(bytes))
}

/// With the images that install packages, where requests may ask for some.
fn with_installers(mut chosen: Vec<Arc<Runtime>>, installs: Installs) -> Vec<Arc<Runtime>> {
    if installs != Installs::Off {
        let installers = chosen.iter().filter(|runtime| runtime.install.is_some()).map(Runtime::installer);
        let installers: Vec<_> = installers.collect();
        chosen.extend(installers);
    }
    chosen
}

async fn build(config: &Config, names: &[String], all: bool) -> Result<(), Failure> {
    let catalogue = engine::catalogue(config)?;
    let chosen = if all { catalogue.runtimes().to_vec() } else { choose(&catalogue, names)? };
    let chosen = with_installers(chosen, config.packages.installs);
    let sandbox = engine::connect(config).await?;
    let (began, count, mut states) = (Instant::now(), chosen.len(), Vec::new());
    for (index, runtime) in chosen.iter().enumerate() {
        let label = format!("[{}/{count}] {} {}", index + 1, runtime.name, runtime.version);
        let show = |line: &str| output::note(&format!("{label}: {line}"));
        let began = Instant::now();
        let state = sandbox.build_image(runtime, &show).await.map_err(Failure::ours)?;
        show(&format!("{:.1} s", began.elapsed().as_secs_f64()));
        let line = format!("{}  {}\n", state.tag, state.size.map_or_else(String::new, megabytes));
        output::result(line.as_bytes()).map_err(Failure::ours)?;
        states.push(state);
    }
    output::note(&format!("{}, after {:.1} s", total(states.iter()), began.elapsed().as_secs_f64()));
    Ok(())
}

async fn collect(config: &Config, names: &[String]) -> Result<(), Failure> {
    let catalogue = engine::catalogue(config)?;
    let sandbox = engine::connect(config).await?;
    let disposal = sandbox.remove_unused_images(catalogue.runtimes(), names).await.map_err(Failure::ours)?;
    for name in &disposal.in_use {
        output::note(&format!("{name} is in use"));
    }
    for name in &disposal.removed {
        output::result(format!("{name}\n").as_bytes()).map_err(Failure::ours)?;
    }
    output::note(&format!("{} images removed, {} freed", disposal.removed.len(), megabytes(disposal.bytes)));
    Ok(())
}

async fn collect_packages(config: &Config) -> Result<(), Failure> {
    let sandbox = engine::connect(config).await?;
    let pruned = sandbox.remove_unused_packages().await.map_err(Failure::ours)?;
    for name in &pruned.removed {
        output::result(format!("{name}\n").as_bytes()).map_err(Failure::ours)?;
    }
    output::note(&format!(
        "{} volumes with packages removed, {} freed; {} kept: in use, of data folders that are there, or used elsewhere in \
         the last {} days",
        pruned.removed.len(),
        megabytes(pruned.bytes),
        pruned.kept,
        config.packages.dependencies_days,
    ));
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
