//! Points at which a crash test ends this process as `kill -9` does, to see that nothing is lost there.
//!
//! Only debug builds and the cargo feature `failpoints` have them; elsewhere [`pass`] is empty. `execbox serve` takes two
//! hidden flags then: `--fail-at POINT[=N]` ends the process when it passes the point for the N-th time, and `--fail-trace
//! FILE` writes down each point that it passes. `tests/docker/crash_points.rs` goes through [`all`].

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Whether this build has them.
const BUILT: bool = cfg!(any(debug_assertions, feature = "failpoints"));

/// Points with a name of their own.
const POINTS: &[&str] = &[
    "start.folders",
    "start.database",
    "start.blobs",
    "recovery.read",
    "recovery.restored",
    "recovery.ended",
    "start.serving",
    "spool.created",
    "spool.written",
    "answer.async",
    "answer.sync",
    "answer.kill",
    "answer.purge",
    "attempt.folder",
    "artifact.created",
    "artifact.written",
    "blob.written",
    "blob.take",
    "blob.synced",
    "blob.renamed",
    "blob.durable",
    "blob.discard",
    "blob.discarded",
    "trash.empty",
    "trash.emptied",
    "finish.artifacts",
    "finish.output",
    "finish.recorded",
    "finish.shown",
    "scratch.remove",
    "scratch.removed",
];

/// Changes of the database: before one goes to the writing thread, when it is made and not committed, and when it is
/// committed and nobody told.
const CHANGES: &[&str] = &[
    "accept",
    "begin",
    "put_back",
    "finish",
    "forget_key",
    "purge",
    "expire_age",
    "expire_tenant",
    "expire_keys",
    "discard",
];

/// Calls of the Engine: before each, and when it has answered.
const CALLS: &[&str] = &[
    "info",
    "version",
    "list",
    "create volume",
    "inspect image",
    "build",
    "create",
    "stat",
    "copy",
    "list volumes",
    "inspect volume",
    "remove volume",
    "list networks",
    "create network",
    "inspect network",
    "remove network",
    "prepare workspace",
    "attach",
    "start",
    "update",
    "inspect",
    "pause",
    "kill",
    "remove",
];

/// Every point.
#[must_use]
pub fn all() -> Vec<String> {
    let own = POINTS.iter().map(|point| (*point).to_owned());
    let steps = |part: &'static str, of: &'static [&str], whens: &'static [&str]| {
        of.iter().flat_map(move |what| whens.iter().map(move |when| format!("{part}.{what}.{when}")))
    };
    let changes = steps("store", CHANGES, &["asked", "made", "committed"]);
    own.chain(changes).chain(steps("engine", CALLS, &["before", "after"])).collect()
}

/// What was asked for when the process started.
#[derive(Debug)]
struct Armed {
    at: Option<FailAt>,
    passed: AtomicU32,
    trace: Option<Mutex<std::fs::File>>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// `POINT` or `POINT=N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailAt {
    point: String,
    nth: u32,
}

impl FromStr for FailAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (point, nth) = text.split_once('=').unwrap_or((text, "1"));
        let nth = nth.parse().map_err(|_| format!("{nth} is no number"))?;
        if all().iter().any(|known| known == point) {
            Ok(Self { point: point.to_owned(), nth })
        } else {
            Err(format!("there is no point {point}"))
        }
    }
}

/// Sets what happens at which point, once for this process.
///
/// # Errors
/// The file can't be written.
pub fn arm(at: Option<FailAt>, trace: Option<PathBuf>) -> std::io::Result<()> {
    let open = |path| std::fs::File::options().create(true).append(true).open(path).map(Mutex::new);
    let trace = trace.map(open).transpose()?;
    if at.is_some() || trace.is_some() {
        ARMED.get_or_init(|| Armed { at, passed: AtomicU32::new(0), trace });
    }
    Ok(())
}

/// The process is at this point.
#[inline]
pub fn pass(point: &str) {
    if BUILT && let Some(armed) = ARMED.get() {
        armed.pass(point);
    }
}

/// The same for one of several steps; the name is `PART.WHAT.WHEN`.
#[inline]
pub fn pass_step(part: &str, what: &str, when: &str) {
    if BUILT && let Some(armed) = ARMED.get() {
        armed.pass(&format!("{part}.{what}.{when}"));
    }
}

impl Armed {
    fn pass(&self, point: &str) {
        if let Some(trace) = &self.trace {
            let line = format!("{point}\n");
            // A test that misses a line fails.
            drop(trace.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()));
        }
        if let Some(at) = self.at.as_ref().filter(|at| at.point == point)
            && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == at.nth
        {
            // No Rust code runs after it: no destructor, no flush.
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_with_its_passage() {
        let at: FailAt = "store.accept.made=3".parse().unwrap();
        assert_eq!(at, FailAt { point: "store.accept.made".into(), nth: 3 });
        assert_eq!("engine.create volume.after".parse::<FailAt>().unwrap().nth, 1);
        for wrong in ["", "nowhere", "blob.take=x", "store.accept", "=1"] {
            assert!(wrong.parse::<FailAt>().is_err(), "{wrong}");
        }
    }
}
