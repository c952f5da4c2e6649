//! What a container has instead of parts of the profile when it serves several executions of one tenant: its runner
//! makes a room for each (`runner/room`), and puts back there what is missing here. No program ever runs outside a room.

use std::collections::HashMap;
use std::sync::LazyLock;

use nix::libc;
use serde_json::json;

use crate::runner::message::{RoomFolder, RoomSpec};
use crate::runner::{TMP, WORKSPACE};
use crate::sandbox::docker::profile::{
    Identity, MASKED, READONLY, SECCOMP as USUAL, SHM_BYTES, SMALL_BYTES, SMALL_INODES,
};

/// Files in /dev/shm.
const SHM_INODES: u64 = 4_096;
/// All flags of `clone` that make namespaces.
const ANY_NAMESPACE: u64 = 0x7e02_0000;
/// Those that a room is made with.
const OF_A_ROOM: u64 = flag(libc::CLONE_NEWUSER)
    | flag(libc::CLONE_NEWNS)
    | flag(libc::CLONE_NEWPID)
    | flag(libc::CLONE_NEWIPC)
    | flag(libc::CLONE_NEWUTS);

const fn flag(flag: libc::c_int) -> u64 {
    flag.unsigned_abs() as u64
}

/// Our system call filter, and what makes a room. The runner takes that away again before a program starts.
pub(super) static SECCOMP: LazyLock<String> = LazyLock::new(|| {
    let mut filter: serde_json::Value = serde_json::from_str(USUAL).unwrap_or_default();
    if let Some(rules) = filter["syscalls"].as_array_mut() {
        let args =
            json!([{"index": 0, "value": ANY_NAMESPACE, "valueTwo": OF_A_ROOM, "op": "SCMP_CMP_MASKED_EQ"}]);
        rules.push(json!({"names": ["mount", "capset"], "action": "SCMP_ACT_ALLOW"}));
        rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": args}));
    }
    filter.to_string()
});

/// Where rooms have their own file systems: nothing can be written to what lies below.
pub(super) fn covered(id: &Identity<'_>) -> HashMap<String, String> {
    let nothing = "ro,noexec,nosuid,nodev,size=4096,nr_inodes=1";
    let fixed = [WORKSPACE, TMP].map(str::to_owned);
    fixed.into_iter().chain(id.writable.iter().cloned()).map(|path| (path, nothing.to_owned())).collect()
}

/// Whether a room has its own instead of the container's, and so its own cover over it. The container has none there: the
/// kernel lets nobody mount a whole /proc where only a part of one is to be seen.
pub(super) fn is_own(path: &str) -> bool {
    path.starts_with("/proc/")
}

/// For the runner, as its argument.
pub(super) fn description(id: &Identity<'_>) -> String {
    let folder = |path: &str, bytes, inodes, exec, mode| RoomFolder {
        path: path.to_owned(),
        bytes,
        inodes,
        exec,
        mode,
    };
    let mut folders: Vec<_> =
        id.writable.iter().map(|path| folder(path, SMALL_BYTES, SMALL_INODES, false, 0o700)).collect();
    folders.push(folder("/dev/shm", SHM_BYTES, SHM_INODES, false, 0o1777));
    // Their size comes with the execution.
    folders.push(folder(TMP, 1 << 20, 16, false, 0o1777));
    folders.push(folder(WORKSPACE, 1 << 20, 16, true, 0o700));
    let text =
        |paths: &[&str]| paths.iter().filter(|path| is_own(path)).map(|path| (*path).to_owned()).collect();
    let spec = RoomSpec { folders, masked: text(&MASKED), readonly: text(&READONLY) };
    serde_json::to_string(&spec).unwrap_or_default()
}
