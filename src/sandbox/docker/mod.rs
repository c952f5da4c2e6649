//! Docker behind the sandbox trait. The only place that knows the Engine's client library.

use std::path::PathBuf;

use crate::runtime::Runtime;
use crate::sandbox::SandboxError;

/// How the Engine is reached and used.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `unix:///...` or `tcp://...`; `None`: `DOCKER_HOST` (read by config.rs), else the usual sockets.
    pub host: Option<String>,
    /// OCI runtime other than the Engine's default.
    pub oci_runtime: Option<String>,
    /// First user id of the slots.
    pub uid_base: u32,
    /// CA bundle for image builds.
    pub ca_bundle: Option<PathBuf>,
    /// Debian mirror for image builds.
    pub debian_mirror: Option<String>,
    /// Proxy for image builds.
    pub build_proxy: Option<String>,
    /// Network of image builds.
    pub build_network: String,
    /// Cap on one build.
    pub build_timeout: std::time::Duration,
}

/// What is known of the Engine, for `doctor` and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Where it answers.
    pub address: String,
    /// Its version.
    pub version: String,
    /// API version that is spoken with it.
    pub api_version: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Default seccomp is on.
    pub seccomp: bool,
    /// memory, swap, pids and cpu limits work; the names of those that do not.
    pub missing_limits: Vec<String>,
    /// The OCI runtime's version, such as runc's.
    pub oci_runtime_version: String,
    /// Kernel version.
    pub kernel: String,
    /// Storage driver.
    pub storage_driver: String,
}

/// The Engine with our runner in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DockerSandbox {}

/// The state of a runtime's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageState {
    /// Its tag: made from the runtime's name and a hash of what it is built from.
    pub tag: String,
    /// Its size in bytes, when it is built.
    pub size: Option<u64>,
}

impl DockerSandbox {
    /// Finds the Engine, checks that it can hold what we promise, puts the runner's volume in place, and removes
    /// what an earlier server left.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub async fn connect(_config: DockerConfig) -> Result<Self, SandboxError> {
        Err(SandboxError::Engine("stub".into()))
    }

    /// What is known of the Engine.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn facts(&self) -> Result<EngineFacts, SandboxError> {
        Err(SandboxError::Engine("stub".into()))
    }

    /// Makes the runtime's image where it is missing; `progress` gets a line at a time.
    ///
    /// # Errors
    /// Which step failed, and what to do.
    pub async fn build_image(
        &self,
        _runtime: &Runtime,
        _progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<ImageState, SandboxError> {
        Err(SandboxError::Engine("stub".into()))
    }

    /// Whether the runtime's image exists, and how big it is.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn image_state(&self, _runtime: &Runtime) -> Result<ImageState, SandboxError> {
        Err(SandboxError::Engine("stub".into()))
    }
}
