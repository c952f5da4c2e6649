//! Bubblewrap around the same root file system: fresh namespaces by an unprivileged tool, without limits, system call filter
//! or Engine.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::contender::{Operation, timed};
use crate::engine_cycle::{PASS, PYTHON};

/// What it is told; the root file system goes before it.
const ARGUMENTS: [&str; 12] = [
    "--unshare-all",
    "--die-with-parent",
    "--clearenv",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    "--chdir",
    "/tmp",
    "--",
];

pub(crate) fn caller(root: &Path) -> Result<Operation> {
    let root = root.to_owned();
    let run = move || {
        let mut command = Command::new("bwrap");
        command.arg("--ro-bind").arg(&root).arg("/").args(ARGUMENTS).args([PYTHON, "-c", PASS]);
        let status = command.stdin(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("bwrap: {status}").into()) }
    };
    run().map_err(|error: crate::Error| format!("{error} (installed by deploy/setup-bench.sh)"))?;
    Ok(timed(run))
}
