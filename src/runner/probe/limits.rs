//! Limits, as far as they can be read or tried without using them up.

use std::fs::OpenOptions;
use std::io::Write as _;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::network::errno;
use super::sys::in_child;
use super::{Outcome, Place, Promises, Row};

const CLASS: &str = "limits";
/// What cgroup v1 says where nothing is limited: the largest number of whole pages.
const V1_UNLIMITED: u64 = i64::MAX as u64 / 4096 * 4096;

pub(super) fn rows(promises: &Promises) -> Vec<Row> {
    let mut rows: Vec<_> = promises.ulimits.iter().flat_map(|(name, most)| ulimit(name, *most)).collect();
    rows.extend(promises.places.iter().flat_map(place));
    rows.extend(cgroup(promises));
    rows.extend(oom_score(promises.least_oom_score));
    rows
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "nofile" => Resource::RLIMIT_NOFILE,
        "fsize" => Resource::RLIMIT_FSIZE,
        "core" => Resource::RLIMIT_CORE,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "stack" => Resource::RLIMIT_STACK,
        "cpu" => Resource::RLIMIT_CPU,
        _ => return None,
    })
}

fn ulimit(name: &str, most: u64) -> Vec<Row> {
    let title = format!("a hard limit {name} over {most}");
    let Some(resource) = resource(name) else {
        return vec![Row::new(CLASS, title, Outcome::Worked, "the probe does not know this limit")];
    };
    let hard = match getrlimit(resource) {
        Ok((_, hard)) => Row::holds(CLASS, title, hard <= most, format!("it is {hard}")),
        Err(error) => Row::new(CLASS, title, Outcome::Unknown, error.to_string()),
    };
    let raised = in_child(|| setrlimit(resource, most, most + 1));
    vec![hard, Row::refused(CLASS, format!("raise the hard limit {name}"), raised, &[Errno::EPERM])]
}

fn place(place: &Place) -> Vec<Row> {
    let path = &place.path;
    let found = match statvfs(path.as_str()) {
        Ok(found) => found,
        Err(error) => {
            return vec![Row::new(CLASS, path, Outcome::Worked, format!("it can't be looked at: {error}"))];
        }
    };
    let bytes = found.blocks() * found.fragment_size();
    let size = place.bytes.map(|most| {
        Row::holds(CLASS, format!("more than {most} bytes in {path}"), bytes <= most, format!("{bytes}"))
    });
    let mut rows: Vec<_> = size.into_iter().collect();
    rows.extend(place.inodes.map(|inodes| {
        let name = format!("more than {inodes} files in {path}");
        Row::holds(CLASS, name, found.files() <= inodes, format!("{}", found.files()))
    }));
    let flags = [
        ("set-user-id programs", FsFlags::ST_NOSUID, place.own_mount),
        ("device files", FsFlags::ST_NODEV, place.own_mount),
        ("programs", FsFlags::ST_NOEXEC, !place.exec),
    ];
    rows.extend(flags.into_iter().filter(|(.., wanted)| *wanted).map(|(what, flag, _)| {
        let name = format!("{what} in {path}");
        Row::holds("files", name, found.flags().contains(flag), format!("{:?}", found.flags()))
    }));
    rows
}

/// Cgroup v2 has the first file of each pair, v1 the second.
fn cgroup(promises: &Promises) -> Vec<Row> {
    vec![
        at_most(
            "memory",
            promises.memory_bytes,
            ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"],
        ),
        swap(promises.memory_bytes),
        at_most("processes", promises.pids, ["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]),
        processors(promises.cpu_millis),
        weight(promises.cpu_shares),
    ]
}

fn read(paths: &[&str]) -> Option<String> {
    let text = paths.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    Some(text.trim().to_owned())
}

/// `max`, -1 and v1's largest number mean that there is no limit.
fn number(text: &str) -> u64 {
    text.parse().ok().filter(|value| *value < V1_UNLIMITED).unwrap_or(u64::MAX)
}

fn at_most(what: &str, most: u64, paths: [&str; 2]) -> Row {
    let name = format!("{what} over {most}");
    match read(&paths) {
        Some(text) => Row::holds(CLASS, name, number(&text) <= most, format!("the limit is {text}")),
        None => Row::new(CLASS, name, Outcome::Unknown, "the container has no such file"),
    }
}

/// v2 counts swap alone, v1 memory and swap together.
fn swap(memory_bytes: u64) -> Row {
    match read(&["/sys/fs/cgroup/memory.swap.max"]) {
        Some(text) => Row::holds(CLASS, "swap", number(&text) == 0, format!("the limit is {text}")),
        None => {
            at_most("memory and swap", memory_bytes, ["/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"; 2])
        }
    }
}

/// v2 has weights, which runtimes make from shares by rules that changed; ours must be under its default of 100.
fn weight(shares: u64) -> Row {
    const DEFAULT_SHARES: u64 = 1024;
    match read(&["/sys/fs/cgroup/cpu.weight"]) {
        Some(text) => {
            let light = number(&text) < 100 || shares >= DEFAULT_SHARES;
            Row::holds(
                CLASS,
                "the weight of others for its processors",
                light,
                format!("the weight is {text}"),
            )
        }
        None => at_most("shares of processors", shares, ["/sys/fs/cgroup/cpu/cpu.shares"; 2]),
    }
}

fn processors(most_millis: u64) -> Row {
    const V1: &str = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    const PERIOD: &str = "/sys/fs/cgroup/cpu/cpu.cfs_period_us";
    let name = format!("processors over {most_millis} thousandths");
    let pair =
        read(&["/sys/fs/cgroup/cpu.max"]).or_else(|| Some(format!("{} {}", read(&[V1])?, read(&[PERIOD])?)));
    let Some(pair) = pair else {
        return Row::new(CLASS, name, Outcome::Unknown, "the container has no such file");
    };
    let (quota, period) = pair.split_once(' ').unwrap_or((&pair, "100000"));
    let millis = number(quota).saturating_mul(1000) / number(period).max(1);
    Row::holds(CLASS, name, millis <= most_millis, format!("quota and period are {pair}"))
}

/// The host's OOM killer takes the highest first. How far a process may lower its own depends on the Engine: where that
/// runs without CAP_SYS_RESOURCE, down to 0, which is what others on the host have; never below.
fn oom_score(least: i64) -> Vec<Row> {
    let lower = || {
        let mut file = OpenOptions::new().write(true).open("/proc/self/oom_score_adj").map_err(errno)?;
        file.write_all(b"-1").map_err(errno)
    };
    let name = "an oom_score_adj below others on the host";
    let mut rows = vec![Row::refused(CLASS, name, in_child(lower), &[Errno::EACCES, Errno::EPERM])];
    rows.extend(["1", "self"].map(|process| {
        let name = format!("an oom_score_adj below {least} of /proc/{process}");
        match read(&[&format!("/proc/{process}/oom_score_adj")]).and_then(|text| text.parse::<i64>().ok()) {
            Some(score) => Row::holds(CLASS, name, score >= least, format!("it is {score}")),
            None => Row::new(CLASS, name, Outcome::Unknown, "it can't be read"),
        }
    }));
    rows
}
