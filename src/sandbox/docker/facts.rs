//! What the Engine says of itself, and the refusal of one that can't hold what we promise.

use std::time::Duration;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};

use crate::sandbox::SandboxError;
use crate::sandbox::docker::engine::Engine;

const QUICK: Duration = Duration::from_secs(10);

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
    /// It filters system calls.
    pub seccomp: bool,
    /// Names of the limits that it can't set; empty when all work.
    pub missing_limits: Vec<String>,
    /// Names of its OCI runtimes.
    pub oci_runtimes: Vec<String>,
    /// Version (or commit) of the default OCI runtime, as the Engine gives it.
    pub oci_runtime_version: String,
    /// Kernel version.
    pub kernel: String,
    /// Storage driver.
    pub storage_driver: String,
    /// Where it keeps images, on its host.
    pub root_dir: String,
}

pub(super) async fn read(engine: &Engine) -> Result<EngineFacts, SandboxError> {
    let info = engine.call("info", QUICK, engine.docker.info()).await?;
    let version = engine.call("version", QUICK, engine.docker.version()).await?;
    let components = version.components.unwrap_or_default();
    let runc = components.into_iter().find(|component| component.name == "runc");
    Ok(EngineFacts {
        address: engine.address.clone(),
        version: version.version.unwrap_or_default(),
        api_version: engine.docker.client_version().to_string(),
        cgroup_version: if info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2) { 2 } else { 1 },
        seccomp: info.security_options.iter().flatten().any(|option| option.contains("name=seccomp")),
        missing_limits: missing_limits(&info),
        oci_runtimes: info.runtimes.into_iter().flatten().map(|(name, _)| name).collect(),
        oci_runtime_version: runc.map(|component| component.version).unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default(),
    })
}

fn missing_limits(info: &SystemInfo) -> Vec<String> {
    let limits = [
        ("memory", info.memory_limit),
        ("swap", info.swap_limit),
        ("pids", info.pids_limit),
        ("cpu", info.cpu_cfs_quota),
    ];
    limits.into_iter().filter(|(_, works)| *works != Some(true)).map(|(name, _)| name.to_owned()).collect()
}

impl EngineFacts {
    /// Fails closed: an Engine that can't hold a limit runs nothing of ours.
    pub(super) fn require(&self, oci_runtime: Option<&str>) -> Result<(), SandboxError> {
        let refuse = |why: String| Err(SandboxError::Engine(why));
        if !self.seccomp {
            return refuse(
                "the Engine does not filter system calls (no seccomp); use a kernel and Engine with it"
                    .into(),
            );
        }
        if !self.missing_limits.is_empty() {
            let missing = self.missing_limits.join(", ");
            return refuse(format!(
                "the Engine can't limit {missing} here; enable the cgroup controllers (on Debian: kernel parameters \
                 cgroup_enable=memory swapaccount=1) and restart it"
            ));
        }
        match oci_runtime {
            Some(name) if !self.oci_runtimes.iter().any(|known| known == name) => refuse(format!(
                "the Engine has no OCI runtime {name:?} (it has {}); install it, or leave --oci-runtime out",
                self.oci_runtimes.join(", ")
            )),
            _ => Ok(()),
        }
    }
}
