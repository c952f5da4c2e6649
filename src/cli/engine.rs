//! What every command that needs containers shares: the settings, the catalogue and the connection.

use crate::cli::failure::Failure;
use crate::config::Config;
use crate::runtime::Catalogue;
use crate::sandbox::docker::{DockerConfig, DockerSandbox, PoolLimits};

/// Names of the settings by which the Engine is reached and images are built.
pub(super) const SETTINGS: [&str; 10] = [
    "docker_host",
    "oci_runtime",
    "ca_bundle",
    "debian_mirror",
    "build_proxy",
    "build_network",
    "build_timeout_seconds",
    "images_dir",
    "memory_disk_mb",
    "disk_reserve_mb",
];

/// What the packages of commands are kept as: whoever may run one has the Engine, and so all that is on it.
const COMMANDS: &str = "commands";

/// The part of the settings that the sandbox needs.
pub(super) fn docker_config(config: &Config, instance: &str) -> Result<DockerConfig, Failure> {
    Ok(DockerConfig {
        host: config.engine_address().map_err(Failure::usage)?,
        oci_runtime: config.oci_runtime.clone(),
        uid_base: config.uid_base,
        runner: None,
        instance: instance.to_owned(),
        ca_bundle: config.build.ca_bundle_file().map_err(Failure::usage)?,
        debian_mirror: config.build.debian_mirror.clone(),
        build_proxy: config.build.build_proxy.clone(),
        build_network: config.build.build_network.clone(),
        build_timeout: std::time::Duration::from_secs(config.build.build_timeout_seconds),
        disk: config.disk(),
        installs: config.installs(),
        pool: PoolLimits { least: 0, most: 0, total: 0 },
    })
}

/// For a command, which has no data folder and is an instance of its own.
pub(super) async fn connect(config: &Config) -> Result<DockerSandbox, Failure> {
    let mut docker = docker_config(config, &uuid::Uuid::new_v4().to_string())?;
    docker.installs.kept_as = Some(COMMANDS.to_owned());
    DockerSandbox::connect(docker).await.map_err(Failure::ours)
}

/// For a server: with warm containers.
pub(super) async fn connect_warm(config: &Config, instance: &str) -> Result<DockerSandbox, Failure> {
    let mut docker = DockerConfig { pool: config.pool_limits(), ..docker_config(config, instance)? };
    docker.installs.folder = std::fs::canonicalize(&config.data_dir).ok();
    DockerSandbox::connect(docker).await.map_err(Failure::ours)
}

/// With settings that name parts of it checked against it.
pub(super) fn catalogue(config: &Config) -> Result<Catalogue, Failure> {
    let catalogue = Catalogue::load(config.build.images_dir.as_deref()).map_err(Failure::usage)?;
    config.check_registries(&catalogue).map_err(Failure::usage)?;
    Ok(catalogue)
}
