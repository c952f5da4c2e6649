//! What the kernel says of the container's memory, on cgroup v1 and v2.

use std::time::Duration;

const PEAK: [&str; 2] = ["/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes"];
const OOM_KILLS: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

fn read_first(paths: [&str; 2]) -> Option<String> {
    paths.into_iter().find_map(|path| std::fs::read_to_string(path).ok())
}

/// Highest memory charged to the container so far; `None` where the kernel does not tell (v2 before Linux 5.19).
pub(super) fn memory_peak() -> Option<u64> {
    read_first(PEAK)?.trim().parse().ok()
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
}
