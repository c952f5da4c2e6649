//! Files, devices and sockets that must be absent, unreadable or unwritable.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chown};

use super::network::errno;
use super::{Outcome, Promises, Row};

/// Absent, or not for us.
const NO_ACCESS: [Errno; 8] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::EACCES,
    Errno::EPERM,
    Errno::EROFS,
    Errno::ENXIO,
    Errno::ENODEV,
    Errno::EISDIR,
];

/// What tells of the host or of other containers, or lets them be changed: hidden by an empty file or folder.
const MASKED: [&str; 60] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecount",
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

/// Of the runner, which holds the frames and the nonce.
const RUNNERS: [&str; 9] = ["mem", "environ", "maps", "auxv", "io", "syscall", "stack", "fd", "map_files"];

/// The same for all containers: whoever could open it could lock it or watch it, and so be heard in another.
const SHARED: [&str; 2] = ["/.execbox-runner", "/.execbox-runner/execbox"];

const WRITES: [&str; 45] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/dmesg_restrict",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/perf_event_paranoid",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/threads-max",
    "/proc/sys/kernel/unprivileged_bpf_disabled",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/fs/file-max",
    "/proc/sys/fs/mqueue/queues_max",
    "/proc/sys/fs/protected_symlinks",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/mmap_min_addr",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/proc/1/oom_score_adj",
    "/proc/1/mem",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/power/state",
    "/sys/module/kernel/parameters/panic",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/cgroup.subtree_control",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/pids.max",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "/sys/fs/cgroup/devices/devices.allow",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/pids/cgroup.procs",
    "/sys/fs/cgroup/pids/pids.max",
    "/.execbox-runner/execbox",
];

/// Folders in which nothing can be made.
const SHUT: [&str; 11] = [
    "/",
    "/etc",
    "/usr",
    "/var",
    "/root",
    "/dev",
    "/.execbox-runner",
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/memory",
    "/sys/fs/cgroup/pids",
    "/sys/fs/bpf",
];

const DEVICES: [&str; 33] = [
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/kmsg",
    "/dev/sda",
    "/dev/vda",
    "/dev/xvda",
    "/dev/nvme0n1",
    "/dev/dm-0",
    "/dev/loop0",
    "/dev/loop-control",
    "/dev/mapper/control",
    "/dev/fuse",
    "/dev/kvm",
    "/dev/net/tun",
    "/dev/ppp",
    "/dev/vhost-net",
    "/dev/vhost-vsock",
    "/dev/vsock",
    "/dev/userfaultfd",
    "/dev/autofs",
    "/dev/btrfs-control",
    "/dev/cpu/0/msr",
    "/dev/dri/card0",
    "/dev/nvidia0",
    "/dev/hpet",
    "/dev/rtc0",
    "/dev/snapshot",
    "/dev/uinput",
    "/dev/watchdog",
    "/dev/tty0",
    "/dev/ttyS0",
    "/dev/console",
];

const SOCKETS: [&str; 10] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/podman/podman.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/journal/socket",
];

/// Mounts that can't be written by anyone in the container.
const READ_ONLY: [&str; 8] = [
    "/",
    "/.execbox-runner",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/sys",
];

pub(super) fn rows(promises: &Promises) -> Vec<Row> {
    let mut rows: Vec<_> = MASKED.iter().map(|path| masked("files", path)).collect();
    rows.extend(RUNNERS.iter().map(|name| masked("runner", &format!("/proc/1/{name}"))));
    rows.extend(SHARED.iter().map(|path| {
        let opened = OpenOptions::new().read(true).open(path);
        Row::fails("runner", format!("open {path}, which containers share"), done(opened), &[Errno::EACCES])
    }));
    rows.extend(WRITES.iter().map(|path| {
        let opened = OpenOptions::new().write(true).open(path);
        Row::fails("files", format!("open {path} to write"), done(opened), &NO_ACCESS)
    }));
    rows.extend(SHUT.iter().map(|folder| shut(folder)));
    rows.extend(DEVICES.iter().map(|path| {
        let opened = OpenOptions::new().read(true).open(path);
        Row::fails("devices", format!("open {path}"), done(opened), &NO_ACCESS)
    }));
    rows.extend(SOCKETS.iter().map(|path| {
        Row::fails("sockets", format!("connect to {path}"), done(UnixStream::connect(path)), &NO_ACCESS)
    }));
    rows.extend(READ_ONLY.iter().map(|path| read_only(path)));
    rows.extend(nodes());
    rows.push(give_away());
    rows.push(writable_mounts(promises));
    rows.push(processors_are_told());
    rows
}

/// Runtimes count their processors by this file: the masks around it must not hide it.
fn processors_are_told() -> Row {
    let path = "/sys/devices/system/cpu/online";
    let told = std::fs::read_to_string(path).is_ok_and(|text| !text.trim().is_empty());
    Row::holds("files", format!("hide {path}"), told, if told { "it can be read" } else { "it is hidden" })
}

fn done<T>(result: io::Result<T>) -> Result<(), Errno> {
    result.map(drop).map_err(errno)
}

/// Neither a byte nor a name can be read there.
fn masked(class: &str, path: &str) -> Row {
    let read = if Path::new(path).is_dir() {
        std::fs::read_dir(path).map(|mut entries| entries.next().is_some())
    } else {
        let mut byte = [0];
        // Some have no end, and one byte tells enough.
        std::fs::File::open(path).and_then(|mut file| file.read(&mut byte)).map(|count| count > 0)
    };
    let name = format!("read {path}");
    match read {
        Ok(something) => Row::holds(class, name, !something, if something { "content" } else { "empty" }),
        Err(error) => Row::fails(class, name, Err(errno(error)), &NO_ACCESS),
    }
}

fn shut(folder: &str) -> Row {
    let path = format!("{}/execbox-probe", folder.trim_end_matches('/'));
    let made = std::fs::create_dir(&path);
    if made.is_ok() {
        // Of a container that goes next.
        drop(std::fs::remove_dir(&path));
    }
    Row::fails("files", format!("make a folder in {folder}"), done(made), &NO_ACCESS)
}

fn read_only(path: &str) -> Row {
    let name = format!("{path} is mounted for writing");
    match statvfs(path) {
        Ok(found) => Row::holds(
            "files",
            name,
            found.flags().contains(FsFlags::ST_RDONLY),
            format!("{:?}", found.flags()),
        ),
        // What is not there can't be written.
        Err(error) => Row::fails("files", name, Err(error), &NO_ACCESS),
    }
}

/// Device files of our own making: memory, the first disk, and a character device.
fn nodes() -> Vec<Row> {
    let kinds = [
        ("/dev/mem", SFlag::S_IFCHR, (1, 1)),
        ("a disk", SFlag::S_IFBLK, (8, 0)),
        ("fuse", SFlag::S_IFCHR, (10, 229)),
    ];
    let mut rows = Vec::new();
    for place in ["/work", "/tmp", "/dev/shm"] {
        for (what, kind, (major, minor)) in kinds {
            let path = format!("{place}/execbox-probe-node");
            let made = mknod(path.as_str(), kind, Mode::S_IRUSR, makedev(major, minor));
            if made.is_ok() {
                drop(std::fs::remove_file(&path));
            }
            rows.push(Row::fails("devices", format!("mknod for {what} in {place}"), made, &NO_ACCESS));
        }
    }
    rows
}

/// A file of root's in a place of ours would be the start of a set-user-id program.
fn give_away() -> Row {
    let path = "/tmp/execbox-probe-file";
    let made = std::fs::write(path, "").map_err(errno);
    let given = made.and_then(|()| chown(path, Some(Uid::from_raw(0)), Some(Gid::from_raw(0))));
    drop(std::fs::remove_file(path));
    // In a user namespace without root there is no such user.
    let refusals = [NO_ACCESS.as_slice(), &[Errno::EINVAL]].concat();
    Row::fails("files", "chown a file to root", given, &refusals)
}

/// Every mount that can be written is one that we made, or the kernel's own: what can be done in those, other rows try.
fn writable_mounts(promises: &Promises) -> Row {
    let name = "a mount that can be written beside the promised";
    let Ok(text) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return Row::new("files", name, Outcome::Unknown, "mountinfo can't be read");
    };
    let known = |path: &str| {
        ["/proc", "/dev", "/sys/fs/cgroup"].iter().any(|top| Path::new(path).starts_with(top))
            || promises.places.iter().any(|place| place.path == path)
    };
    let more: Vec<_> = text.lines().filter_map(writable_mount).filter(|path| !known(path)).collect();
    Row::holds("files", name, more.is_empty(), more.join(", "))
}

/// The mount point of a line, if it can be written: the fifth and sixth field.
fn writable_mount(line: &str) -> Option<&str> {
    let mut fields = line.split(' ').skip(4);
    let (path, options) = (fields.next()?, fields.next()?);
    options.split(',').any(|option| option == "rw").then_some(path)
}
