//! Who the program is, what it could become, and what it can do to the runner.

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{
    Gid, Pid, Uid, getegid, geteuid, getgid, getgroups, getppid, getuid, setgid, setgroups, setuid,
};

use super::sys::{self, Arg, in_child};
use super::{Outcome, Promises, Row};

const CLASS: &str = "privileges";
const DENIED: [Errno; 3] = [Errno::EPERM, Errno::EACCES, Errno::ENOSYS];

pub(super) fn rows(promises: &Promises) -> Vec<Row> {
    let mut rows = identity(promises);
    rows.extend(becoming());
    rows.extend(status());
    rows.push(cgroup_names());
    rows.extend(runner());
    rows
}

fn identity(promises: &Promises) -> Vec<Row> {
    let user = [getuid(), geteuid()].map(Uid::as_raw);
    let group = [getgid(), getegid()].map(Gid::as_raw);
    let groups: Vec<_> = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
    let hostname = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let ours = |id: &u32| *id == promises.uid && *id != 0;
    vec![
        Row::holds(CLASS, "another user id than ours", user.iter().all(ours), format!("{user:?}")),
        Row::holds(CLASS, "another group id than ours", group.iter().all(ours), format!("{group:?}")),
        Row::holds(CLASS, "more groups", groups.iter().all(ours), format!("{groups:?}")),
        Row::holds(CLASS, "a host name that tells something", hostname == promises.hostname, hostname),
    ]
}

/// Each in a child: one that works must not change the next.
fn becoming() -> Vec<Row> {
    const VERSION_3: &[u8] = &[0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0];
    const ALL: &[u8] = &[0xff; 24];
    let n = |number: i32| Arg::Number(number.into());
    // In a user namespace without root there is no such user.
    let no_such_user = [DENIED.as_slice(), &[Errno::EINVAL]].concat();
    let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
    let users = [
        ("setuid(0)", in_child(|| setuid(root))),
        ("setgid(0)", in_child(|| setgid(wheel))),
        ("setgroups([0])", in_child(|| setgroups(&[wheel]))),
        ("setresuid(-1, 0, -1)", sys::call(libc::SYS_setresuid, &[n(-1), n(0), n(-1)])),
        ("setresgid(-1, 0, -1)", sys::call(libc::SYS_setresgid, &[n(-1), n(0), n(-1)])),
        ("setreuid(-1, 0)", sys::call(libc::SYS_setreuid, &[n(-1), n(0)])),
    ];
    let powers = [
        ("capset(all)", sys::call(libc::SYS_capset, &[Arg::Bytes(VERSION_3), Arg::Bytes(ALL)])),
        (
            "prctl(PR_CAP_AMBIENT_RAISE)",
            sys::call(libc::SYS_prctl, &[n(libc::PR_CAP_AMBIENT), n(libc::PR_CAP_AMBIENT_RAISE), n(21)]),
        ),
        ("prctl(PR_SET_SECUREBITS)", sys::call(libc::SYS_prctl, &[n(libc::PR_SET_SECUREBITS), n(0)])),
        ("setpriority(-20)", sys::call(libc::SYS_setpriority, &[n(0), n(0), n(-20)])),
        (
            "sched_setscheduler(SCHED_FIFO)",
            sys::call(libc::SYS_sched_setscheduler, &[n(0), n(libc::SCHED_FIFO), Arg::Bytes(&[1, 0, 0, 0])]),
        ),
        // A class for real-time input and output.
        ("ioprio_set(IOPRIO_CLASS_RT)", sys::call(libc::SYS_ioprio_set, &[n(1), n(0), n(1 << 13)])),
    ];
    let users = users.into_iter().map(|(name, answer)| Row::refused(CLASS, name, answer, &no_such_user));
    let powers = powers.into_iter().map(|(name, answer)| Row::refused(CLASS, name, answer, &DENIED));
    users.chain(powers).collect()
}

/// What the kernel says of this process.
fn status() -> Vec<Row> {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let says = |what: &str, name: &str, expected: fn(&str) -> bool| match field(name) {
        Some(value) => Row::holds(CLASS, what, expected(value), format!("{name} is {value}")),
        None => Row::new(CLASS, what, Outcome::Unknown, format!("{name} is not told")),
    };
    let none = |value: &str| value.bytes().all(|digit| digit == b'0');
    vec![
        says("a capability to gain", "CapBnd", none),
        says("an effective capability", "CapEff", none),
        says("a permitted capability", "CapPrm", none),
        says("an inheritable capability", "CapInh", none),
        says("an ambient capability", "CapAmb", none),
        says("new privileges by exec", "NoNewPrivs", |value| value == "1"),
        says("system calls without a filter", "Seccomp", |value| value == "2"),
    ]
}

/// In its own cgroup namespace a process sees itself at the root. Elsewhere the path holds the container's id.
fn cgroup_names() -> Row {
    let name = "the container's id in /proc/self/cgroup";
    match std::fs::read_to_string("/proc/self/cgroup") {
        Ok(text) => {
            let outside = text.lines().find(|line| !line.ends_with(":/"));
            Row::holds(CLASS, name, outside.is_none(), outside.unwrap_or("/"))
        }
        Err(error) => Row::new(CLASS, name, Outcome::Unknown, error.to_string()),
    }
}

/// Signals to PID 1 must have no effect. Were it another's process, it would be left alone.
fn runner() -> Vec<Row> {
    let parent = getppid();
    let first = parent == Pid::from_raw(1);
    let mut rows =
        vec![Row::holds("runner", "a process above the runner", first, format!("its id is {parent}"))];
    if first {
        rows.extend([Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGTERM, Signal::SIGSEGV].map(unmoved));
    }
    rows
}

/// Should the runner end of it, so does this process, and the server finds the sandbox lost.
fn unmoved(signal: Signal) -> Row {
    let sent = kill(Pid::from_raw(1), signal);
    let stat = std::fs::read_to_string("/proc/1/stat").unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    let runs = matches!(state, Some('R' | 'S' | 'D'));
    Row::holds("runner", format!("{signal} to the runner"), runs, format!("{sent:?}, its state is {state:?}"))
}
