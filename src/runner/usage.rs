//! What the kernel says of the container's memory, on cgroup v1 and v2.

use std::time::Duration;

use crate::runner::sys;

const PEAK: [&str; 2] = ["/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes"];
const USAGE: [&str; 2] = ["/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes"];
const STAT: [&str; 2] = ["/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat"];
const OOM_KILLS: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

fn read_first(paths: [&str; 2]) -> Option<String> {
    paths.into_iter().find_map(|path| std::fs::read_to_string(path).ok())
}

/// Highest memory charged to the container so far; `None` where the kernel does not tell (v2 before Linux 5.19).
fn memory_peak() -> Option<u64> {
    read_first(PEAK)?.trim().parse().ok()
}

/// The highest memory of one execution.
#[derive(Debug)]
pub(super) struct Peak {
    /// What the container had reached before, where it has served others.
    earlier: Option<u64>,
}

impl Peak {
    /// `again` where the container may have served others.
    pub(super) fn begin(again: bool) -> Self {
        Self { earlier: memory_peak().filter(|_| again) }
    }

    /// The container's, unless an earlier execution had reached as much: then what is charged now, or the largest process
    /// of this execution, whichever is more.
    pub(super) fn read(&self) -> Option<u64> {
        let peak = memory_peak()?;
        match self.earlier {
            Some(earlier) if peak <= earlier => {
                let now = read_first(USAGE).and_then(|text| text.trim().parse().ok());
                Some(now.unwrap_or(0).max(sys::largest_child()).min(peak))
            }
            _ => Some(peak),
        }
    }
}

/// Bytes of processes and of file systems in memory.
pub(super) fn memory_held() -> Option<u64> {
    parse_held(&read_first(STAT)?)
}

/// Version 2 calls one of them otherwise, and adds up by itself.
fn parse_held(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse::<u64>().ok()
    };
    let processes = field("total_rss").or_else(|| field("anon"))?;
    let files = field("total_shmem").or_else(|| field("shmem"))?;
    Some(processes + files)
}

/// Processes that the kernel has killed so far because the container's memory was used up.
pub(super) fn oom_kills() -> u64 {
    read_first(OOM_KILLS).as_deref().and_then(parse_oom_kills).unwrap_or(0)
}

/// Both versions have a line `oom_kill N`.
fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_versions() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_oom_kills(""), None);
    }

    #[test]
    fn what_is_held_is_found_in_both_versions() {
        let v1 = "cache 9\nrss 1\nshmem 2\ntotal_cache 9\ntotal_rss 4096\ntotal_shmem 8192\n";
        assert_eq!(parse_held(v1), Some(12_288));
        assert_eq!(parse_held("anon 4096\nfile 100\nshmem 1\nanon_thp 5\n"), Some(4_097));
        assert_eq!(parse_held("cache 9\n"), None);
    }
}
