//! What must be as before once a hostile case is over: the server's descriptors and memory, volumes, processes on the
//! host, and whether the server answers and works.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::query_parameters::ListVolumesOptions;
use serde_json::json;

use crate::engine;
use crate::server::Server;

/// How soon `/healthz` answers at best, on a machine that other tests share.
const HEALTHY: Duration = Duration::from_millis(100);
/// Connections that the client keeps open.
const CONNECTIONS: usize = 2;
/// What resident memory may grow by: pools of an unoptimised server. `make soak` holds the leak, at 10 MB.
const GROWTH_BYTES: u64 = 48 << 20;
/// How the kernel calls a runner.
const RUNNER: &str = "execbox";
/// How long what is on its way out may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Sweep {
    descriptors: usize,
    resident: u64,
    volumes: BTreeSet<String>,
    uids: std::ops::Range<u32>,
}

impl Sweep {
    /// Looks at a server that has run something already. Its containers run as these users, and nobody else does.
    pub async fn before(server: &Server, uids: std::ops::Range<u32>) -> Self {
        hello(server).await;
        Self {
            descriptors: descriptors(server),
            resident: resident(server),
            volumes: unnamed_volumes().await,
            uids,
        }
    }

    /// Asserts that nothing is left. The containers are looked for at the server's end.
    pub async fn after(self, server: &Server) {
        assert_healthy(server).await;
        hello(server).await;
        let began = Instant::now();
        loop {
            let more: Vec<_> = unnamed_volumes().await.difference(&self.volumes).cloned().collect();
            let processes = processes_of(&self.uids);
            // Each container that waits has a connection.
            let waiting = engine::containers(&server.label()).await.len();
            let (descriptors, resident) = (descriptors(server), resident(server));
            let clean = more.is_empty()
                && processes.is_empty()
                && descriptors <= self.descriptors + CONNECTIONS + waiting
                && resident <= self.resident + GROWTH_BYTES;
            if clean {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "left behind: volumes {more:?}, processes {processes:?}, descriptors {} -> {descriptors}, memory {} -> {resident}",
                self.descriptors,
                self.resident,
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn hello(server: &Server) {
    let hello = server.eval(&json!({"language": "bash", "code": "echo hello"})).await;
    assert_eq!(hello["stdout"], "hello\n", "{hello:#}");
}

/// The best of a few: what else the machine does is not the server's fault.
pub async fn assert_healthy(server: &Server) {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let began = Instant::now();
        let answer = server.client.get(format!("{}/healthz", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        best = best.min(began.elapsed());
        if best < HEALTHY {
            return;
        }
    }
    panic!("/healthz takes {best:?}");
}

fn process(server: &Server) -> std::path::PathBuf {
    Path::new("/proc").join(server.pid().to_string())
}

pub fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(process(server).join("fd")).unwrap().count()
}

/// Resident memory, in bytes.
pub fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(process(server).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// The Engine names by 64 digits what a container got without asking. All tests share the runner's volume.
async fn unnamed_volumes() -> BTreeSet<String> {
    let listed = engine::engine().await.list_volumes(None::<ListVolumesOptions>).await.unwrap();
    let names = listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name);
    names.filter(|name| name.len() == 64).collect()
}

/// The host's processes of these users, by their command.
pub fn processes_of(uids: &std::ops::Range<u32>) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter_map(|process| {
        let status = std::fs::read_to_string(process.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let uid: u32 = field("Uid:")?.split_whitespace().next()?.parse().ok()?;
        uids.contains(&uid).then(|| field("Name:").unwrap_or_default().to_owned())
    });
    // The runners of containers that wait.
    found.filter(|name| name != RUNNER).collect()
}
