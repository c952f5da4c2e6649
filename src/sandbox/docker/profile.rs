//! The whole hardening profile of a container, on one screen. Each field's reason stands beside it; the numbers of
//! the limits come with the execution.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::limits::{Limits, MIB};
use crate::runner::message::{DiskSpec, Rlimits};
use crate::runner::probe::{Place, Promises};
use crate::runner::{ARGUMENT, TMP, WORKSPACE};
use crate::sandbox::docker::Reuse;
use crate::sandbox::docker::workspace_volume::{self, Placement};
use crate::sandbox::docker::{dependencies, rooms};

/// Where the runner's volume is mounted: image content can't replace it.
pub(super) const RUNNER_MOUNT: &str = "/.execbox-runner";
/// The runner in it.
pub(super) const RUNNER: &str = "/.execbox-runner/execbox";
/// Our system call filter: the Engine's default list without io_uring, ptrace, process_vm_*, pidfd_*, vmsplice,
/// memfd_secret, kcmp, name_to_handle_at, clock and quota changes; sockets of UNIX, IPv4 and IPv6 only, without MPTCP and SMC; no 32-bit calls.
pub(super) const SECCOMP: &str = include_str!("seccomp.json");
/// Size of each folder of a language's own, in bytes.
pub(super) const SMALL_BYTES: u64 = 16 * MIB;
/// What the workspace and /tmp may hold of memory beyond their limit before the runner has seen it.
const UNSEEN_BYTES: u64 = 16 * MIB;
/// Size of /dev/shm, in bytes: the Engine's own default.
pub(super) const SHM_BYTES: u64 = 64 * MIB;
/// Memory of the runner and of the kernel on its behalf.
const RUNNER_BYTES: u64 = 16 * MIB;
/// Open files of one process.
const NOFILE: u64 = 1024;
/// Files in each folder of a language's own.
pub(super) const SMALL_INODES: u64 = 1024;
const HOSTNAME: &str = "execbox";
const OOM_SCORE: i64 = 500;
const CPU_SHARES: u64 = 256;

/// What of an execution's limits its container is made with: executions of one class can have the same containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) reuse: Reuse,
    /// Of the whole container.
    pub(super) memory_bytes: u64,
    /// Of the program, which the runner holds to it: a container's peak must not hide that of a smaller one.
    pub(super) program_bytes: u64,
    pub(super) cpu_millis: u64,
    /// Of the whole container: processes and threads, the runner's included.
    pub(super) pids: u64,
    /// Size of the workspace; `None` where each execution in the container gets one of its own.
    pub(super) disk: Option<DiskSpec>,
    /// Size of /tmp; `None` as above.
    pub(super) tmp: Option<DiskSpec>,
    /// Where the workspace is.
    pub(super) workspace: Placement,
}

impl Class {
    /// A container with a workspace on disk serves one execution: a volume is not made empty again.
    pub(super) fn of(limits: &Limits, reuse: Reuse, workspace: Placement) -> Self {
        let reuse = if workspace.is_volume() { Reuse::Never } else { reuse };
        Self {
            reuse,
            workspace,
            memory_bytes: container_memory_bytes(limits, workspace),
            program_bytes: limits.memory_bytes,
            cpu_millis: limits.cpu_millis,
            // The runner; and the first process of a room.
            pids: limits.pids + if reuse == Reuse::Never { 1 } else { 2 },
            disk: (reuse == Reuse::Never).then(|| disk(limits)),
            tmp: (reuse == Reuse::Never).then(|| tmp(limits, workspace)),
        }
    }

    /// Whether a container of this class becomes one of the other by a change of limits.
    pub(super) fn can_become(&self, other: &Self) -> bool {
        let fixed = |class: &Self| (class.reuse, class.disk, class.tmp, class.workspace);
        fixed(self) == fixed(other)
    }
}

/// Size of the workspace.
pub(super) fn disk(limits: &Limits) -> DiskSpec {
    DiskSpec { bytes: limits.disk_bytes, inodes: limits.disk_inodes }
}

fn tmp(limits: &Limits, workspace: Placement) -> DiskSpec {
    DiskSpec { bytes: workspace.tmp_bytes(limits), inodes: limits.disk_inodes }
}

/// Hard limits of each process, beside those of [`ulimits`]. The runner sets them.
pub(super) fn rlimits(limits: &Limits) -> Rlimits {
    let seconds = (limits.timeout_ms + limits.compile_timeout_ms).div_ceil(1000);
    Rlimits { cpu_seconds: seconds * limits.cpu_millis.div_ceil(1000) + 1, file_bytes: limits.disk_bytes }
}

/// The limits of a class, to change those of a container that runs.
pub(super) fn limits_of(class: &Class) -> ContainerUpdateBody {
    ContainerUpdateBody {
        memory: Some(signed(class.memory_bytes)),
        memory_swap: Some(signed(class.memory_bytes)),
        nano_cpus: Some(signed(class.cpu_millis * 1_000_000)),
        pids_limit: Some(signed(class.pids)),
        ..Default::default()
    }
}

/// What differs from one container to the next.
pub(super) struct Identity<'a> {
    /// The image's id, never a tag: a tag can move.
    pub(super) image: &'a str,
    /// Name of the volume with the runner in it.
    pub(super) runner_volume: &'a str,
    /// User and group: one for each container, so that no per-user quota of the kernel is shared.
    pub(super) uid: u32,
    /// OCI runtime other than the Engine's default.
    pub(super) oci_runtime: Option<&'a str>,
    /// Name of the volume with packages that were installed.
    pub(super) dependencies: Option<&'a str>,
    /// Folders that the language must write to, beside the workspace and /tmp.
    pub(super) writable: &'a [String],
    /// By which we find it again.
    pub(super) labels: HashMap<String, String>,
    /// Its own name.
    pub(super) name: &'a str,
}

/// Memory of the whole container: the program's, and that of the file systems in memory, which are charged to it. The
/// workspace and /tmp count once: the runner holds both together to one limit. /tmp can be as large as that alone.
pub(super) fn container_memory_bytes(limits: &Limits, workspace: Placement) -> u64 {
    limits.memory_bytes + workspace.tmp_bytes(limits) + UNSEEN_BYTES + SHM_BYTES + RUNNER_BYTES
}

/// The profile. Whatever is not named here is the Engine's default, and `tests/docker` holds it against `inspect`.
#[rustfmt::skip]
pub(super) fn container(id: Identity<'_>, class: &Class) -> ContainerCreateBody {
    let (uid, text) = (id.uid, |s: &str| s.to_owned());
    ContainerCreateBody {
        image: Some(text(id.image)),
        user: Some(format!("{uid}:{uid}")),                     // numeric, never root
        entrypoint: Some(vec![text(RUNNER)]),                    // the image's own is never used
        cmd: Some(command(&id, class)),
        working_dir: Some(text(WORKSPACE)),                     // fixed: CVE-2024-21626
        env: Some(vec![text("PATH=/usr/local/bin:/usr/bin:/bin")]), // nothing secret: the program can read it
        tty: Some(false),                                       // CVE-2025-52565, and streams stay apart
        open_stdin: Some(true),                                 // frames come in by it ...
        stdin_once: Some(true),                                 // ... and its end is the dead man's switch
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        hostname: Some(text(HOSTNAME)),                         // constant: the default is the container's id
        network_disabled: Some(true),
        healthcheck: Some(HealthConfig { test: Some(vec![text("NONE")]), ..Default::default() }), // no exec by the image
        stop_signal: Some(text("SIGKILL")),
        stop_timeout: Some(1),                                  // the Engine's shutdown does not wait for us
        host_config: Some(host(&id, class)),
        labels: Some(id.labels),
        ..Default::default()
    }
}

#[rustfmt::skip]
fn host(id: &Identity<'_>, class: &Class) -> HostConfig {
    let (memory, text) = (signed(class.memory_bytes), |s: &str| s.to_owned());
    // In each room the runner masks the paths of the room's own /proc; see `rooms`.
    let rooms = class.reuse == Reuse::Tenant;
    let paths = |paths: &[&str]| paths.iter().filter(|path| !rooms || !rooms::is_own(path)).map(|path| text(path)).collect();
    let seccomp = if rooms { &*rooms::SECCOMP } else { SECCOMP };
    HostConfig {
        network_mode: Some(text("none")),                       // only lo
        readonly_rootfs: Some(true),
        tmpfs: Some(tmpfs(id, class)),
        shm_size: Some(signed(SHM_BYTES)),
        ipc_mode: Some(text("private")),
        memory: Some(memory),
        memory_swap: Some(memory),                              // equal: no swap; absent it would be twice as much
        oom_score_adj: Some(OOM_SCORE),                         // the host's OOM killer takes us before the server
        nano_cpus: Some(signed(class.cpu_millis * 1_000_000)),
        cpu_shares: Some(signed(CPU_SHARES)),                   // a quarter: the server and the Engine win contention
        pids_limit: Some(signed(class.pids)),                   // counts threads
        ulimits: Some(ulimits()),
        cap_drop: Some(vec![text("ALL")]),
        privileged: Some(false),
        security_opt: Some(vec![text("no-new-privileges"), format!("seccomp={seccomp}")]),
        masked_paths: Some(paths(&MASKED)),                      // replaces the Engine's list, so it is whole
        readonly_paths: Some(paths(&READONLY)),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE), // 20.10 on v1 would show the container's id
        mounts: Some(mounts(id, class)),
        log_config: Some(HostConfigLogConfig { typ: Some(text("none")), config: None }), // json-file fills the disk
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(false),                               // it loses the exit code; we remove by ourselves
        init: Some(false),                                      // the runner is PID 1
        runtime: id.oci_runtime.map(text),
        ..Default::default()
    }
}

/// The only writable places. The Engine adds `noexec` unless `exec` is said. What is in them counts as memory; only
/// the workspace, /tmp and /dev/shm have a budget beside the program's.
fn tmpfs(id: &Identity<'_>, class: &Class) -> HashMap<String, String> {
    let (Some(disk), Some(tmp)) = (class.disk, class.tmp) else { return rooms::covered(id) };
    let uid = id.uid;
    let own = format!("uid={uid},gid={uid},mode=0700");
    let sized =
        |DiskSpec { bytes, inodes }: DiskSpec| format!("nosuid,nodev,size={bytes},nr_inodes={inodes}");
    let small = sized(DiskSpec { bytes: SMALL_BYTES, inodes: SMALL_INODES });
    let mut places: HashMap<_, _> =
        id.writable.iter().map(|path| (path.clone(), format!("rw,noexec,{small},{own}"))).collect();
    places.insert(TMP.to_owned(), format!("rw,noexec,{},mode=1777", sized(tmp)));
    match class.workspace {
        Placement::Memory => {
            places.insert(WORKSPACE.to_owned(), format!("rw,exec,{},{own}", sized(disk)));
        }
        Placement::Volume { .. } => drop(places.remove(WORKSPACE)),
    }
    places
}

/// The runner, the workspace where that is on the disk, and packages, which no program can change.
fn mounts(id: &Identity<'_>, class: &Class) -> Vec<Mount> {
    let runner = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(id.runner_volume.to_owned()),
        target: Some(RUNNER_MOUNT.to_owned()),
        read_only: Some(true),
        ..Default::default()
    };
    let on_disk = class.workspace.is_volume();
    let workspace = on_disk.then(|| workspace_volume::mount(id.name, &id.labels));
    let dependencies = id.dependencies.map(dependencies::for_programs);
    [runner].into_iter().chain(workspace).chain(dependencies).collect()
}

/// The runner, and what it needs to make rooms.
fn command(id: &Identity<'_>, class: &Class) -> Vec<String> {
    let mut command = vec![ARGUMENT.to_owned()];
    command.extend((class.reuse == Reuse::Tenant).then(|| rooms::description(id)));
    command
}

/// Soft and hard alike, but for the stack. Those that differ between executions: [`rlimits`].
fn ulimits() -> Vec<ResourcesUlimits> {
    let limit = |name: &str, soft: u64, hard: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(signed(soft)),
        hard: Some(signed(hard)),
    };
    vec![
        limit("nofile", NOFILE, NOFILE),
        limit("core", 1, 1), // not 0: the kernel then still starts a core_pattern pipe
        limit("memlock", 64 << 10, 64 << 10),
        limit("stack", 8 * MIB, 64 * MIB),
    ]
}

/// What the probe holds a container of this profile against.
pub(super) fn promises(uid: u32, limits: &Limits, class: &Class) -> Promises {
    let (rlimits, tmp) = (rlimits(limits), tmp(limits, class.workspace));
    let own = [("fsize", rlimits.file_bytes), ("cpu", rlimits.cpu_seconds)]
        .map(|(name, most)| (name.to_owned(), most));
    let place = |path: &str, bytes, inodes, exec| Place {
        path: path.to_owned(),
        bytes: Some(bytes),
        inodes,
        exec,
        own_mount: true,
    };
    let work = place(WORKSPACE, limits.disk_bytes, Some(limits.disk_inodes), true);
    let work = match class.workspace {
        Placement::Memory => work,
        // The runner watches its use; the Engine can't say `nosuid` of a volume.
        Placement::Volume { .. } => Place { bytes: None, inodes: None, own_mount: false, ..work },
    };
    let hard = |limit: ResourcesUlimits| Some((limit.name?, u64::try_from(limit.hard?).ok()?));
    Promises {
        uid,
        hostname: HOSTNAME.to_owned(),
        memory_bytes: class.memory_bytes,
        pids: class.pids,
        cpu_millis: class.cpu_millis,
        cpu_shares: CPU_SHARES,
        least_oom_score: OOM_SCORE,
        ulimits: ulimits().into_iter().filter_map(hard).chain(own).collect(),
        places: vec![
            work,
            place(TMP, tmp.bytes, Some(tmp.inodes), false),
            place("/dev/shm", SHM_BYTES, None, false),
        ],
    }
}

/// The Engine's default list, what Engine 20.10 leaves readable, and facts of the host that no program needs. Of
/// `/sys`, the control group and `devices/system/cpu` stay, by which runtimes know their processors: what else is in
/// `devices` can only be named one by one, and what a host has not is skipped.
pub(super) const MASKED: [&str; 59] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/bus",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/locks",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sys/kernel/random/boot_id",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices/LNXSYSTM:00",
    "/sys/devices/breakpoint",
    "/sys/devices/faux",
    "/sys/devices/isa",
    "/sys/devices/kprobe",
    "/sys/devices/msr",
    "/sys/devices/pci0000:00",
    "/sys/devices/platform",
    "/sys/devices/pnp0",
    "/sys/devices/power",
    "/sys/devices/soc0",
    "/sys/devices/software",
    "/sys/devices/system/clockevents",
    "/sys/devices/system/clocksource",
    "/sys/devices/system/container",
    "/sys/devices/system/edac",
    "/sys/devices/system/machinecheck",
    "/sys/devices/system/memory",
    "/sys/devices/system/memory_tiering",
    "/sys/devices/system/node",
    "/sys/devices/system/xen_memory",
    "/sys/devices/tracepoint",
    "/sys/devices/uprobe",
    "/sys/devices/virtual",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/btrfs",
    "/sys/fs/erofs",
    "/sys/fs/ext4",
    "/sys/fs/f2fs",
    "/sys/fs/fuse",
    "/sys/fs/pstore",
    "/sys/fs/xfs",
    "/sys/hypervisor",
    "/sys/kernel",
    "/sys/module",
    "/sys/power",
];

/// The Engine's default list, but for /proc/bus, which is masked.
pub(super) const READONLY: [&str; 4] = ["/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The Engine counts in i64; limits are far below its end.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_languages_own_folders_are_small_and_never_replace_the_workspace() {
        let writable = ["/var/cache/lang".to_owned(), WORKSPACE.to_owned()];
        let id = Identity {
            image: "sha256:0",
            runner_volume: "v",
            uid: 7,
            oci_runtime: None,
            dependencies: None,
            writable: &writable,
            labels: HashMap::new(),
            name: "c",
        };
        let limits = crate::config::Config::default().limit_policy().default;
        let places = tmpfs(&id, &Class::of(&limits, Reuse::Never, Placement::Memory));
        assert!(
            places["/var/cache/lang"]
                .starts_with("rw,noexec,nosuid,nodev,size=16777216,nr_inodes=1024,uid=7")
        );
        assert!(places[WORKSPACE].starts_with("rw,exec,"), "{places:?}");
        assert_eq!(places.len(), 3);
        let on_disk = tmpfs(&id, &Class::of(&limits, Reuse::Tenant, Placement::Volume { tmp_bytes: MIB }));
        assert!(!on_disk.contains_key(WORKSPACE), "the volume is there: {on_disk:?}");
        assert!(on_disk[TMP].contains(",size=1048576,nr_inodes=65536,"), "it is in memory: {on_disk:?}");
        assert!(places[TMP].contains(",size=268435456,nr_inodes=65536,"), "as the workspace: {places:?}");
    }

    #[test]
    fn the_filter_is_json_and_holds_nothing_that_must_not_be_there() {
        let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
        let names: Vec<&str> = profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null())
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .map(|name| name.as_str().unwrap())
            .collect();
        for banned in [
            "io_uring_setup",
            "ptrace",
            "process_vm_readv",
            "vmsplice",
            "memfd_secret",
            "pidfd_open",
            "pidfd_getfd",
            "socketcall",
            "kcmp",
            "personality",
            "quotactl",
            "socket",
            "socketpair",
            "clone",
            "clone3",
            "unshare",
            "mount",
            "setns",
            "bpf",
            "keyctl",
            "userfaultfd",
            "open_by_handle_at",
            "name_to_handle_at",
            "modify_ldt",
            "add_key",
        ] {
            assert!(!names.contains(&banned), "{banned} is allowed");
        }
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    }
}
