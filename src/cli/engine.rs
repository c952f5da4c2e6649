//! What every command that needs containers shares: the settings, the catalogue and the connection.

use crate::cli::failure::Failure;
use crate::config::Config;
use crate::runtime::Catalogue;
use crate::sandbox::docker::{DockerConfig, DockerSandbox};

/// Names of the settings by which the Engine is reached and images are built.
pub(super) const SETTINGS: [&str; 8] = [
    "docker_host",
    "oci_runtime",
    "ca_bundle",
    "debian_mirror",
    "build_proxy",
    "build_network",
    "build_timeout_seconds",
    "images_dir",
];

/// The part of the settings that the sandbox needs. `instance` names who owns its containers.
fn docker_config(config: &Config, instance: String) -> Result<DockerConfig, Failure> {
    Ok(DockerConfig {
        host: config.engine_address(),
        oci_runtime: config.oci_runtime.clone(),
        uid_base: config.uid_base,
        runner: None,
        instance,
        ca_bundle: config.build.ca_bundle_file().map_err(Failure::usage)?,
        debian_mirror: config.build.debian_mirror.clone(),
        build_proxy: config.build.build_proxy.clone(),
        build_network: config.build.build_network.clone(),
        build_timeout: std::time::Duration::from_secs(config.build.build_timeout_seconds),
    })
}

/// Connects for a server on this data folder: what an earlier server on it left is removed.
pub(super) async fn connect_server(config: &Config) -> Result<DockerSandbox, Failure> {
    let folder = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
    connect_as(config, folder.display().to_string()).await
}

/// Connects for one command, which owns only what it makes itself.
pub(super) async fn connect(config: &Config) -> Result<DockerSandbox, Failure> {
    connect_as(config, format!("command-{}", uuid::Uuid::new_v4())).await
}

async fn connect_as(config: &Config, instance: String) -> Result<DockerSandbox, Failure> {
    DockerSandbox::connect(docker_config(config, instance)?).await.map_err(Failure::ours)
}

pub(super) fn catalogue(config: &Config) -> Result<Catalogue, Failure> {
    Catalogue::load(config.build.images_dir.as_deref()).map_err(Failure::usage)
}
