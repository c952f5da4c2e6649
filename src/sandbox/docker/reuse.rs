//! Which of the two settings of isolation is in force, and why.

use std::sync::atomic::Ordering;

use crate::limits::Limits;
use crate::sandbox::docker::DockerSandbox;

/// Whether a container may serve more than one execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Reuse {
    /// One container, one execution, then it is removed.
    #[default]
    Never,
    /// A container serves many executions of one tenant, each in namespaces of its own.
    Tenant,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReuseInForce {
    /// The setting.
    pub reuse: Reuse,
    /// Why it is not the one that was asked for, or would not be: what the host refused.
    pub why_not: Option<String>,
}

impl DockerSandbox {
    /// Whether containers of this Engine hold what execbox promises when they serve several executions: `None` if they
    /// do, else what is in the way.
    pub async fn why_no_reuse(&self, limits: &Limits) -> Option<String> {
        // A container with its workspace on disk never serves another execution.
        let disk_bytes = limits.disk_bytes.min(self.0.disk.most_in_memory);
        match self.probe(&Limits { disk_bytes, ..*limits }, Reuse::Tenant).await {
            Ok(report) => report.require().err(),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Serves with this setting from now on where a probe allows it, else one container for each execution.
    pub async fn set_reuse(&self, wanted: Reuse, limits: &Limits) -> ReuseInForce {
        let why_not = if wanted == Reuse::Tenant { self.why_no_reuse(limits).await } else { None };
        let reuse = if why_not.is_some() { Reuse::Never } else { wanted };
        self.0.rooms.store(reuse == Reuse::Tenant, Ordering::SeqCst);
        ReuseInForce { reuse, why_not }
    }
}
