//! System calls that the filter must refuse.

use nix::errno::Errno;
use nix::libc;

use super::Row;
use super::sys::{self, Arg};

/// What the filter says, and what a kernel without the call says. Any other error comes from behind the filter.
const BY_FILTER: [Errno; 2] = [Errno::EPERM, Errno::ENOSYS];
const fn n(number: i64) -> Arg {
    Arg::Number(number)
}
const BAD_FD: Arg = n(-1);
const HERE: Arg = n(libc::AT_FDCWD as i64);
const ROOT: Arg = Arg::Text(c"/");
const TMP: Arg = Arg::Text(c"/tmp");
const NAME: Arg = Arg::Text(c"execbox-probe");
const NOWHERE: Arg = Arg::Text(c"/execbox/nowhere");
const TMPFS: Arg = Arg::Text(c"tmpfs");

/// `CLONE_NEW*`, as far as the kernel knows any.
const NAMESPACES: [(&str, i64); 8] = [
    ("CLONE_NEWUSER", libc::CLONE_NEWUSER as i64),
    ("CLONE_NEWNS", libc::CLONE_NEWNS as i64),
    ("CLONE_NEWPID", libc::CLONE_NEWPID as i64),
    ("CLONE_NEWNET", libc::CLONE_NEWNET as i64),
    ("CLONE_NEWIPC", libc::CLONE_NEWIPC as i64),
    ("CLONE_NEWUTS", libc::CLONE_NEWUTS as i64),
    ("CLONE_NEWCGROUP", libc::CLONE_NEWCGROUP as i64),
    ("CLONE_NEWTIME", 0x80),
];

type Call = (&'static str, libc::c_long, &'static [Arg]);

const MOUNTS: &[Call] = &[
    ("mount(tmpfs)", libc::SYS_mount, &[NAME, TMP, TMPFS, n(0), n(0)]),
    ("mount(proc)", libc::SYS_mount, &[NAME, TMP, Arg::Text(c"proc"), n(0), n(0)]),
    ("mount(MS_BIND)", libc::SYS_mount, &[ROOT, TMP, n(0), n(libc::MS_BIND as i64), n(0)]),
    ("mount(MS_REMOUNT)", libc::SYS_mount, &[n(0), ROOT, n(0), n(libc::MS_REMOUNT as i64), n(0)]),
    ("mount(MS_SHARED)", libc::SYS_mount, &[n(0), ROOT, n(0), n(libc::MS_SHARED as i64), n(0)]),
    ("umount2(/proc/kcore)", libc::SYS_umount2, &[Arg::Text(c"/proc/kcore"), n(libc::MNT_DETACH as i64)]),
    ("pivot_root", libc::SYS_pivot_root, &[TMP, TMP]),
    ("chroot", libc::SYS_chroot, &[TMP]),
    ("fsopen", libc::SYS_fsopen, &[TMPFS, n(0)]),
    ("fsconfig", libc::SYS_fsconfig, &[BAD_FD]),
    ("fsmount", libc::SYS_fsmount, &[BAD_FD]),
    ("fspick", libc::SYS_fspick, &[HERE, ROOT, n(0)]),
    ("open_tree", libc::SYS_open_tree, &[HERE, ROOT, n(0)]),
    ("move_mount", libc::SYS_move_mount, &[BAD_FD, NAME, BAD_FD, NAME]),
    ("mount_setattr", libc::SYS_mount_setattr, &[HERE, ROOT]),
    ("swapon", libc::SYS_swapon, &[NOWHERE]),
    ("swapoff", libc::SYS_swapoff, &[NOWHERE]),
    ("quotactl", libc::SYS_quotactl, &[n(0), NOWHERE]),
    ("quotactl_fd", libc::SYS_quotactl_fd, &[BAD_FD]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, &[BAD_FD]),
    ("name_to_handle_at", libc::SYS_name_to_handle_at, &[HERE, ROOT]),
];

/// Far parts of the kernel that programs seldom need, and attackers often.
const KERNEL: &[Call] = &[
    ("bpf", libc::SYS_bpf, &[]),
    ("perf_event_open", libc::SYS_perf_event_open, &[n(0), n(0), BAD_FD, BAD_FD]),
    ("userfaultfd", libc::SYS_userfaultfd, &[]),
    ("kexec_load", libc::SYS_kexec_load, &[n(0), n(0), n(0), n(-1)]),
    ("kexec_file_load", libc::SYS_kexec_file_load, &[BAD_FD, BAD_FD]),
    ("init_module", libc::SYS_init_module, &[]),
    ("finit_module", libc::SYS_finit_module, &[BAD_FD]),
    ("delete_module", libc::SYS_delete_module, &[NAME, n(libc::O_NONBLOCK as i64)]),
    ("fanotify_init", libc::SYS_fanotify_init, &[]),
    ("fanotify_mark", libc::SYS_fanotify_mark, &[BAD_FD]),
    ("io_uring_setup", libc::SYS_io_uring_setup, &[]),
    ("io_uring_enter", libc::SYS_io_uring_enter, &[BAD_FD]),
    ("io_uring_register", libc::SYS_io_uring_register, &[BAD_FD]),
    ("keyctl", libc::SYS_keyctl, &[n(0), n(-3)]),
    ("add_key", libc::SYS_add_key, &[Arg::Text(c"user"), NAME, NAME, n(1), n(-2)]),
    ("request_key", libc::SYS_request_key, &[Arg::Text(c"user"), NAME]),
    ("vmsplice", libc::SYS_vmsplice, &[BAD_FD]),
    ("memfd_secret", libc::SYS_memfd_secret, &[]),
    ("personality(ADDR_NO_RANDOMIZE)", libc::SYS_personality, &[n(0x0004_0000)]),
    ("personality(READ_IMPLIES_EXEC)", libc::SYS_personality, &[n(0x0040_0000)]),
    ("syslog", libc::SYS_syslog, &[n(10)]),
    ("lookup_dcookie", libc::SYS_lookup_dcookie, &[]),
    ("clock_settime", libc::SYS_clock_settime, &[]),
    ("clock_adjtime", libc::SYS_clock_adjtime, &[]),
    ("settimeofday", libc::SYS_settimeofday, &[]),
    ("adjtimex", libc::SYS_adjtimex, &[]),
    ("sethostname", libc::SYS_sethostname, &[NAME, n(1)]),
    ("setdomainname", libc::SYS_setdomainname, &[NAME, n(1)]),
    ("reboot", libc::SYS_reboot, &[]),
    ("acct", libc::SYS_acct, &[NOWHERE]),
    ("vhangup", libc::SYS_vhangup, &[]),
    ("mbind", libc::SYS_mbind, &[]),
    ("set_mempolicy", libc::SYS_set_mempolicy, &[]),
    ("migrate_pages", libc::SYS_migrate_pages, &[]),
    ("move_pages", libc::SYS_move_pages, &[]),
];

/// Those that reach into another process.
const PROCESSES: &[Call] = &[
    ("ptrace(PTRACE_TRACEME)", libc::SYS_ptrace, &[n(libc::PTRACE_TRACEME as i64)]),
    ("ptrace(PTRACE_ATTACH, 1)", libc::SYS_ptrace, &[n(libc::PTRACE_ATTACH as i64), n(1)]),
    ("ptrace(PTRACE_SEIZE, 1)", libc::SYS_ptrace, &[n(libc::PTRACE_SEIZE as i64), n(1)]),
    ("process_vm_readv(1)", libc::SYS_process_vm_readv, &[n(1)]),
    ("process_vm_writev(1)", libc::SYS_process_vm_writev, &[n(1)]),
    ("process_madvise", libc::SYS_process_madvise, &[BAD_FD]),
    ("process_mrelease", libc::SYS_process_mrelease, &[BAD_FD]),
    ("pidfd_open(1)", libc::SYS_pidfd_open, &[n(1)]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, &[BAD_FD]),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, &[BAD_FD]),
    ("kcmp", libc::SYS_kcmp, &[n(-1), n(-1)]),
    ("setns", libc::SYS_setns, &[BAD_FD]),
    ("setns(CLONE_NEWNET)", libc::SYS_setns, &[BAD_FD, n(libc::CLONE_NEWNET as i64)]),
];

/// A soft and a hard limit of open files that change nothing where the call works.
const SAME_FILES: Arg = Arg::Words(&[1024, 1024]);
/// All processors.
const ANYWHERE: Arg = Arg::Words(&[u64::MAX]);
/// `struct sched_param` of the usual class, and any other whose numbers are all zero.
const ZERO: Arg = Arg::Words(&[0]);
/// `struct sched_attr`: its size, then the usual class with the usual priority.
const USUAL_CLASS: Arg = Arg::Words(&[48, 0, 0, 0, 0, 0]);
/// The usual priority of reads and writes: `IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)`.
const USUAL_IO: Arg = n(2 << 13 | 4);

/// Those that change how another process runs: one user id is enough for them, and the runner has the program's.
const SCHEDULING: &[Call] = &[
    ("prlimit64(1, RLIMIT_NOFILE)", libc::SYS_prlimit64, &[n(1), n(libc::RLIMIT_NOFILE as i64), SAME_FILES]),
    ("setpriority(PRIO_PROCESS, 1)", libc::SYS_setpriority, &[n(0), n(1)]),
    ("setpriority(PRIO_PGRP, 0)", libc::SYS_setpriority, &[n(1), n(0)]),
    ("setpriority(PRIO_PGRP, 1)", libc::SYS_setpriority, &[n(1), n(1)]),
    ("setpriority(PRIO_USER, 0)", libc::SYS_setpriority, &[n(2), n(0)]),
    (
        "sched_setscheduler(1, SCHED_BATCH)",
        libc::SYS_sched_setscheduler,
        &[n(1), n(libc::SCHED_BATCH as i64), ZERO],
    ),
    (
        "sched_setscheduler(1, SCHED_IDLE)",
        libc::SYS_sched_setscheduler,
        &[n(1), n(libc::SCHED_IDLE as i64), ZERO],
    ),
    (
        "sched_setscheduler(1, SCHED_RESET_ON_FORK)",
        libc::SYS_sched_setscheduler,
        &[n(1), n(libc::SCHED_RESET_ON_FORK as i64), ZERO],
    ),
    ("sched_setparam(1)", libc::SYS_sched_setparam, &[n(1), ZERO]),
    ("sched_setattr(1)", libc::SYS_sched_setattr, &[n(1), USUAL_CLASS]),
    ("sched_setaffinity(1)", libc::SYS_sched_setaffinity, &[n(1), n(8), ANYWHERE]),
    ("ioprio_set(IOPRIO_WHO_PROCESS, 1)", libc::SYS_ioprio_set, &[n(1), n(1), USUAL_IO]),
    ("ioprio_set(IOPRIO_WHO_PGRP, 0)", libc::SYS_ioprio_set, &[n(2), n(0), USUAL_IO]),
    ("ioprio_set(IOPRIO_WHO_PGRP, 1)", libc::SYS_ioprio_set, &[n(2), n(1), USUAL_IO]),
    ("ioprio_set(IOPRIO_WHO_USER, 0)", libc::SYS_ioprio_set, &[n(3), n(0), USUAL_IO]),
    // Keeps the neighbor of each processor idle while the program runs.
    ("prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE)", libc::SYS_prctl, &[n(62), n(1)]),
    // The kernel reads 32 bits of a number, and the filter 64.
    ("prctl(PR_SCHED_CORE + 2^32)", libc::SYS_prctl, &[n(62 | 1 << 32), n(1)]),
    ("prlimit64(1 + 2^32, RLIMIT_NOFILE)", libc::SYS_prlimit64, &[n(1 | 1 << 32), n(7), SAME_FILES]),
];

#[cfg(target_arch = "x86_64")]
const X86: &[Call] = &[
    ("iopl", libc::SYS_iopl, &[n(3)]),
    ("ioperm", libc::SYS_ioperm, &[n(0x80), n(1), n(1)]),
    ("modify_ldt", libc::SYS_modify_ldt, &[]),
    ("getpid as an x32 call", 0x4000_0000 + libc::SYS_getpid, &[]),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = namespaces();
    for (class, calls) in
        [("mounts", MOUNTS), ("kernel", KERNEL), ("processes", PROCESSES), ("processes", SCHEDULING)]
    {
        rows.extend(calls.iter().map(|call| row(class, call)));
    }
    #[cfg(target_arch = "x86_64")]
    {
        rows.extend(X86.iter().map(|call| row("kernel", call)));
        rows.push(Row::refused("kernel", "getpid by int 0x80", sys::call_32_bit(), &BY_FILTER));
    }
    rows
}

fn row(class: &str, (name, number, args): &Call) -> Row {
    Row::refused(class, *name, sys::call(*number, args), &BY_FILTER)
}

fn namespaces() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, flag) in NAMESPACES {
        let unshare = sys::call(libc::SYS_unshare, &[n(flag)]);
        rows.push(Row::refused("namespaces", format!("unshare({name})"), unshare, &BY_FILTER));
        if flag == 0x80 {
            // It is in the place of the signal that `clone` takes, so only unshare and clone3 know it.
            continue;
        }
        let clone = sys::call(libc::SYS_clone, &[n(flag | libc::SIGCHLD as i64)]);
        rows.push(Row::refused("namespaces", format!("clone({name})"), clone, &BY_FILTER));
    }
    // Its flags are behind a pointer that no filter can follow, so programs must take it for missing.
    rows.push(Row::refused("namespaces", "clone3", sys::call(libc::SYS_clone3, &[]), &[Errno::ENOSYS]));
    rows
}
