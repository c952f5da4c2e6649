//! Room for connections: the process's limit on open files, and how many connections fit below it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;

/// What the process has open beside connections and work: the database, logs, the Engine, epoll.
const OWN: u64 = 64;
/// What one running execution has open: its attach stream, calls of the Engine, artifacts that come in.
const EACH_WORKER: u64 = 8;
/// What a container that waits has open: its attach stream.
const EACH_WARM: u64 = 1;
/// A connection's socket, and the file that is sent through it.
const EACH_CONNECTION: u64 = 2;
/// With fewer connections than this nobody can be served.
const LEAST: usize = 8;

/// Takes all the open files that the system allows, and lowers the number of connections to what fits into them: the
/// ones too many wait outside, instead of taking the descriptors that the work of others needs.
pub(super) fn fit(config: &mut Config) {
    let Some(files) = raise() else { return };
    let fitting = fitting(files, config);
    if fitting < config.request.connections {
        warn!(files, connections = fitting, "fewer connections than set: raise the limit on open files");
        config.request.connections = fitting;
    }
}

/// The limit after it was raised to the hard one.
fn raise() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Some(if raised { hard } else { soft })
}

fn fitting(files: u64, config: &Config) -> usize {
    let uploads = config.request.uploads as u64;
    let warm = EACH_WARM.saturating_mul(config.pool_limits().total as u64);
    let work = OWN.saturating_add(EACH_WORKER * u64::from(config.workers()));
    let others = work.saturating_add(warm).saturating_add(uploads);
    let connections = files.saturating_sub(others) / EACH_CONNECTION;
    usize::try_from(connections).unwrap_or(usize::MAX).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_work() {
        let mut config = Config { workers: Some(4), ..Config::default() };
        config.request.uploads = 64;
        config.containers.warm_memory_mb = 240;
        assert_eq!(fitting(1_024, &config), (1_024 - 64 - 32 - 10 - 64) / 2);
        assert_eq!(fitting(50, &config), LEAST);
        assert!(fitting(1 << 20, &config) > config.request.connections);
        config.request.uploads = usize::MAX;
        assert_eq!(fitting(1 << 20, &config), LEAST);
    }
}
