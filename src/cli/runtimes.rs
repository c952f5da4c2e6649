//! `execbox runtimes`: the languages on offer.

use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::cli::{engine, output};
use crate::config::Config;
use crate::runtime::Runtime;
use crate::sandbox::docker::DockerSandbox;

/// List the languages on offer.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: Config,
}

pub(super) fn runtimes(args: &Args) -> Result<ExitCode, Failure> {
    let catalogue = engine::catalogue(&args.config)?;
    let rows = super::tokio_runtime()?.block_on(async {
        let sandbox = engine::connect(&args.config).await;
        if let Err(failure) = &sandbox {
            output::complaint(&failure.message);
        }
        let mut rows = vec![["NAME", "VERSION", "ALIASES", "EXTENSIONS", "IMAGE"].map(String::from).to_vec()];
        for runtime in catalogue.runtimes() {
            let image = image(sandbox.as_ref().ok(), runtime).await;
            rows.push(row(runtime, image));
        }
        rows
    });
    output::result(output::table(&rows).as_bytes()).map_err(Failure::ours)?;
    Ok(ExitCode::SUCCESS)
}

async fn image(sandbox: Option<&DockerSandbox>, runtime: &Runtime) -> &'static str {
    let Some(sandbox) = sandbox else { return "unknown" };
    match sandbox.image_state(runtime).await {
        Ok(state) if state.size.is_some() => "built",
        Ok(_) => "on first use",
        Err(_) => "unknown",
    }
}

fn row(runtime: &Runtime, image: &str) -> Vec<String> {
    vec![
        runtime.name.clone(),
        runtime.version.clone(),
        runtime.aliases.join(","),
        runtime.extensions.iter().map(|extension| format!(".{extension}")).collect::<Vec<_>>().join(","),
        image.to_owned(),
    ]
}
