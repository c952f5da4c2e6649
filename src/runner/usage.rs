//! The kernel's counters of the container's memory, on cgroup v1 and v2.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::sys::resource::UsageWho;

use crate::runner::sys;

/// Where version 2 has its files, then where version 1 has them.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
const CHARGED: [&str; 2] = ["memory.current", "memory.usage_in_bytes"];
const PEAK: [&str; 2] = ["memory.peak", "memory.max_usage_in_bytes"];
const STAT: &str = "memory.stat";
const OOM_KILLS: [&str; 2] = ["memory.events", "memory.oom_control"];
/// Room for the longest of the files, `memory.stat`: 2.5 KiB on Linux 6.18.
const TEXT_BYTES: usize = 8 << 10;
/// Room for a number.
const NUMBER_BYTES: usize = 32;

/// The counters' files, open: looking up their paths takes as long as reading them.
#[derive(Debug)]
pub(super) struct Counters {
    charged: File,
    /// None before Linux 5.19 on version 2.
    peak: Option<File>,
    stat: File,
}

/// One reading of the counters. All are bytes of the whole container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charges {
    /// Everything: processes, files, page cache, and the kernel's memory on their behalf.
    pub(super) charged: u64,
    /// The highest `charged` since the container was made, where the kernel tells.
    pub(super) peak: Option<u64>,
    /// Anonymous memory, and shared memory with the files of file systems in memory.
    pub(super) held: u64,
    /// Page tables.
    pub(super) page_tables: PageTables,
}

/// What the kernel tells of page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageTables {
    /// Their bytes.
    Exactly(u64),
    /// At most these bytes: version 1 tells only all of the kernel's memory.
    AtMost(u64),
}

impl Counters {
    /// None where the container has no such files.
    pub(super) fn open() -> Option<Self> {
        let open = |version: usize, name: &str| File::open(format!("{}/{name}", ROOTS[version])).ok();
        (0..ROOTS.len()).find_map(|version| {
            Some(Self {
                charged: open(version, CHARGED[version])?,
                peak: open(version, PEAK[version]),
                stat: open(version, STAT)?,
            })
        })
    }

    /// None where a file can't be read, or says something else than expected.
    pub(super) fn read(&self) -> Option<Charges> {
        let (charged, peak) = self.glance()?;
        let mut buffer = [0; TEXT_BYTES];
        parse_stat(text(&self.stat, &mut buffer)?, charged, peak)
    }

    /// Only what is charged, and its peak: two numbers that are not added up for us.
    pub(super) fn glance(&self) -> Option<(u64, Option<u64>)> {
        let mut buffer = [0; NUMBER_BYTES];
        let charged = number(text(&self.charged, &mut buffer)?)?;
        let peak = self.peak.as_ref().and_then(|peak| number(text(peak, &mut buffer)?));
        Some((charged, peak))
    }
}

fn text<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let count = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..count]).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    number(text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?)
}

fn parse_stat(text: &str, charged: u64, peak: Option<u64>) -> Option<Charges> {
    let held = parse_held(text)?;
    let page_tables = match field(text, "pagetables") {
        Some(bytes) => PageTables::Exactly(bytes),
        None => {
            let processes_and_files = field(text, "total_rss")? + field(text, "total_cache")?;
            PageTables::AtMost(charged.saturating_sub(processes_and_files))
        }
    };
    Some(Charges { charged, peak, held, page_tables })
}

/// Nanoseconds of all processes of the container, in version 1.
const PROCESSORS_V1: [&str; 2] =
    ["/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage"];
/// Several lines, in version 2.
const PROCESSORS_V2: &str = "/sys/fs/cgroup/cpu.stat";

fn read_first(paths: [&str; 2]) -> Option<String> {
    let read = |(root, path)| std::fs::read_to_string(format!("{root}/{path}")).ok();
    ROOTS.into_iter().zip(paths).find_map(read)
}

/// Bytes of processes and of file systems in memory.
pub(super) fn memory_held() -> Option<u64> {
    parse_held(&read_first([STAT; 2])?)
}

/// Version 2 calls one of them otherwise, and adds up by itself.
fn parse_held(text: &str) -> Option<u64> {
    let processes = field(text, "total_rss").or_else(|| field(text, "anon"))?;
    let files = field(text, "total_shmem").or_else(|| field(text, "shmem"))?;
    Some(processes + files)
}

/// Processes that the kernel has killed so far because the container's memory was used up.
pub(super) fn oom_kills() -> u64 {
    read_first(OOM_KILLS).as_deref().and_then(parse_oom_kills).unwrap_or(0)
}

/// Both versions have a line `oom_kill N`.
fn parse_oom_kills(text: &str) -> Option<u64> {
    field(text, "oom_kill")
}

/// Processor time so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessorTime {
    /// Of the whole container, where the kernel tells.
    group: Option<Duration>,
    /// Of this process.
    own: Duration,
    /// Of children that were waited for. The kernel reaps those of a parent that ignores SIGCHLD, and adds their time to
    /// nobody's.
    children: Duration,
}

impl ProcessorTime {
    pub(super) fn now() -> Self {
        Self {
            group: group_time(),
            own: sys::processor_time(UsageWho::RUSAGE_SELF),
            children: sys::processor_time(UsageWho::RUSAGE_CHILDREN),
        }
    }

    /// Of the whole container, in microseconds.
    pub(super) fn group_us(&self) -> Option<u64> {
        self.group.map(micros)
    }

    /// Processor time of all other processes of the container since then.
    pub(super) fn of_others_since(&self, earlier: &Self) -> Duration {
        let children = self.children.saturating_sub(earlier.children);
        let own = self.own.saturating_sub(earlier.own);
        let group = self.group.zip(earlier.group).map(|(now, before)| now.saturating_sub(before));
        // A runtime whose group counts nothing must not make a program free.
        children.max(group.unwrap_or_default().saturating_sub(own))
    }
}

fn group_time() -> Option<Duration> {
    if let Some(text) = PROCESSORS_V1.iter().find_map(|path| std::fs::read_to_string(path).ok()) {
        return Some(Duration::from_nanos(text.trim().parse().ok()?));
    }
    parse_cpu_stat(&std::fs::read_to_string(PROCESSORS_V2).ok()?)
}

fn parse_cpu_stat(text: &str) -> Option<Duration> {
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(micros.trim().parse().ok()?))
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str =
        "cache 9\nrss 1\nshmem 2\ntotal_cache 9000\ntotal_rss 4096\ntotal_rss_huge 7\ntotal_shmem 8192\n";
    const V2: &str = "anon 4096\nfile 100\nkernel 50\npagetables 30\nshmem 1\nanon_thp 5\n";

    #[test]
    fn the_count_is_found_in_both_versions() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_oom_kills(""), None);
    }

    #[test]
    fn processor_time_is_the_groups_without_the_runners() {
        let at = |group: Option<u64>, own, children| ProcessorTime {
            group: group.map(Duration::from_millis),
            own: Duration::from_millis(own),
            children: Duration::from_millis(children),
        };
        let since = |now: ProcessorTime, before| now.of_others_since(&before).as_millis();
        assert_eq!(since(at(Some(900), 30, 0), at(Some(100), 10, 0)), 780, "nobody waited for the children");
        assert_eq!(since(at(None, 30, 70), at(None, 10, 20)), 50, "no such file");
        assert_eq!(since(at(Some(0), 30, 70), at(Some(0), 10, 20)), 50, "a group that does not count");
        assert_eq!(parse_cpu_stat("usage_usec 1500\nuser_usec 9\n"), Some(Duration::from_micros(1_500)));
        assert_eq!(parse_cpu_stat("nr_periods 0\n"), None);
    }

    #[test]
    fn what_is_held_is_found_in_both_versions() {
        assert_eq!(parse_held(V1), Some(12_288));
        assert_eq!(parse_held(V2), Some(4_097));
        assert_eq!(parse_held("cache 9\n"), None);
    }

    #[test]
    fn page_tables_are_told_or_bounded() {
        let tables = |text, charged| parse_stat(text, charged, None).map(|charges| charges.page_tables);
        assert_eq!(tables(V2, 5_000), Some(PageTables::Exactly(30)));
        assert_eq!(tables(V1, 20_000), Some(PageTables::AtMost(6_904)));
        // The counters are not read in one moment.
        assert_eq!(tables(V1, 0), Some(PageTables::AtMost(0)));
        assert_eq!(tables("anon 1\n", 20_000), None);
    }
}
